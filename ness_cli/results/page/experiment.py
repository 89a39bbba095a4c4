"""The part of a page that one experiment has, and the links to all of them."""

from __future__ import annotations

from collections.abc import Sequence

from ness_cli.results import provenance, run_pictures
from ness_cli.results.experiment_pictures import (
    MOST_DRAWN,
    OfExperiment,
    mean_matrix,
    of_experiment,
    slugs,
)
from ness_cli.results.page import elements
from ness_cli.results.summary import Group
from ness_cli.words import counted

_NOT_DRAWN = f"Only the first {MOST_DRAWN} experiments have pictures of training and spectra."


def links(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the places of experiments in the page and what they are called."""
    return [(f"experiment-{slug}", name) for slug, name in zip(slugs(names), names, strict=True)]


def experiments(groups: Sequence[Group], names: Sequence[str]) -> list[str]:
    """Return the parts of all experiments."""
    named = zip(groups, names, slugs(names), strict=True)
    return [
        _experiment(group, name, slug, is_drawn=index < MOST_DRAWN)
        for index, (group, name, slug) in enumerate(named)
    ]


def _experiment(group: Group, name: str, slug: str, *, is_drawn: bool) -> str:
    notes = dict.fromkeys(note for run in group.runs for note in run.notes)
    drawn = of_experiment(group, slug, "") if is_drawn else OfExperiment((), (_NOT_DRAWN,))
    return elements.section(
        f"experiment-{slug}",
        name,
        elements.paragraph(_facts(group), "muted"),
        *(elements.paragraph(note, "note") for note in (*notes, *drawn.problems)),
        _matrix(group),
        elements.side_by_side([_room(group), *elements.drawings(drawn.pictures)]),
        _single_runs(group),
        elements.folded(
            "Settings, commands that repeat it, provenance",
            elements.code(provenance.commands(group)),
            elements.plain(provenance.runs_table(group)),
            elements.plain(provenance.settings_table(group)),
        ),
    )


def _facts(group: Group) -> str:
    seeds = ", ".join(map(str, sorted(group.seeds)))
    total = group.runs[0].state.num_tasks
    behind = f"; behind: {', '.join(map(str, group.seeds_behind))}" if group.seeds_behind else ""
    return f"{group.name}; {group.tasks_done} of {counted(total, 'task')}; seeds: {seeds}{behind}."


def _matrix(group: Group) -> str:
    count = len(group.furthest)
    caption = "Test accuracy, %" + (f", mean over {count} seeds" if count > 1 else "")
    return elements.heat_map(mean_matrix(group, ""), caption, has_means=True)


def _room(group: Group) -> str:
    run = group.furthest[0]
    room = run_pictures.room_left(run, "")
    if room is None:
        return ""
    return elements.heat_map(room, f"{room.title}, seed {run.record['seed']}")


def _single_runs(group: Group) -> str:
    if len(group.runs) < 2:
        return ""
    maps = []
    for run in group.runs:
        caption = f"{run.path}, seed {run.record['seed']}"
        maps.append(elements.heat_map(run_pictures.accuracies(run, ""), caption, has_means=True))
    return elements.folded("Accuracies of single runs", *maps)
