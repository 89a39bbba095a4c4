"""Experiments beside what was published for their presets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ness_cli.results.reproduction import compare
from ness_cli.results.summary import Group, Spread
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.settings import presets
from ness_cli.settings.reproduction import About, Published
from ness_cli.settings.resolve import about_of
from ness_cli.words import fixed

# They read what somebody laid there, which may well be the images of the preset.
_ANY_IMAGES = ("image-folder", "npz", "parquet", "sequence")
_OF_PRESETS = ("default", "preset ")


def departures(group: Group) -> list[str]:
    """Return the settings of an experiment that are not those of its preset, sorted.

    Of these only what decides numbers: where images lie, how often to save and what to keep is
    nobody's business.
    """
    identity, origins = group.identity, group.runs[0].record.get("origins", {})
    return sorted(
        key
        for key, origin in origins.items()
        if key in identity.keys() - {"seed"}
        and not origin.startswith(_OF_PRESETS)
        and not (key == "data.source" and identity[key] in _ANY_IMAGES)
    )


def published_of(group: Group) -> Published | None:
    """Return what was published for an experiment: for its preset, if its method is that one's."""
    about = None if "method.name" in departures(group) else _about(group.preset)
    return None if about is None else about.published


@cache  # of hundreds of experiments most have one preset, and presets stay what they are
def _about(preset: str) -> About | None:
    path = presets.paths().get(preset)
    return None if path is None else about_of(path)


def published_table(groups: Sequence[Group], names: Sequence[str]) -> Table | None:
    """Return experiments beside published results; ``None`` where nothing was published.

    Args:
        groups: The experiments.
        names: What they are called.
    """
    table = plain_table(
        *("experiment", "metric", "verdict", "measured", "published", "difference"), left=3
    )
    notes = []
    for group, name in zip(groups, names, strict=True):
        about = _about(group.preset)
        if about is None or published_of(group) is None:
            continue
        found = compare(group, about, num_tasks=group.runs[0].state.num_tasks)
        changed = departures(group)
        for each in found.comparisons:
            cells = (str(each.measured), str(Spread(each.published, each.published_std)))
            difference = "-" if each.difference is None else fixed(each.difference, signed=True)
            verdict = "other settings" if changed else each.verdict
            table.add_row(name, each.metric, verdict, *cells, difference)
        notes.append(f"{name}: {found.note}")
        notes += [f"{name}: not as in the preset: {', '.join(changed)}"] if changed else []
    return titled("Beside published results, %", table, *notes) if table.rows else None
