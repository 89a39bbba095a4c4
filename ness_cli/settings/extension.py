"""Settings of tasks that are appended to a run: what is not typed is as the run was prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.errors import SettingsError
from ness_cli.settings import presets, unread
from ness_cli.settings.components import SOURCES
from ness_cli.settings.explain import all_options
from ness_cli.settings.model import Settings
from ness_cli.settings.precedence import (
    Layer,
    merge_layers,
    parse_overrides,
    preset_layers,
    without_foreign_options,
)
from ness_cli.settings.resolve import build
from ness_cli.settings.sources.base import SHARED_LABEL_TASKS, PublicSettings
from ness_cli.settings.suggest import unknown_key
from ness_cli.settings.validate import refusal
from ness_cli.settings.values import flatten, group, merge

_OWN = ("data", "train")  # what tasks may have for themselves
_COLOUR = 3  # channels
_FROM = ("source", "path", "sources")  # another data set
# What says which classes become tasks: of another data set, or another choice, it means nothing.
_CHOICE = ("task_order", "num_tasks", "name")
_MAYBE_LISTS = ("class_order", "classes_per_task")  # likewise, where they are lists
_SELECTS = ("class_order", "task_order", "protocol", "classes_per_task")
_SHAPE = ("size", "fit", "channels")  # what images of the run have in common, wherever from
_FORM = (*_SHAPE, "mean", "std", "valid_fraction", "split_seed")  # what holds for other images too
_SAY_WHAT = (
    "name images, as data.path=may.zip or --preset NAME; or data.num_tasks=2 for the next two tasks"
    " of the data set that the run was prepared with"
)


@dataclass(frozen=True)
class Learned:
    """What the tasks of a run so far decide for those to come.

    Attributes:
        channels: Of every image.
        mean: Constants of normalisation of the run's first data set, per channel.
        std: Likewise.
        taken: How many tasks of the data set that the run was prepared with it has.
    """

    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    taken: int


@dataclass(frozen=True)
class ExtensionSettings:
    """Settings of the tasks to append.

    Attributes:
        settings: All that hold for them; only data and training may differ from the run's.
        continues: Whether they are the next tasks of the data set that the run was prepared with.
        typed: What was typed for them.
        notes: What should be said of it.
    """

    settings: Settings
    continues: bool
    typed: tuple[str, ...]
    notes: tuple[str, ...]


def resolve_extension(
    stored: Mapping[str, Any], preset: str | None, overrides: Sequence[str], learned: Learned
) -> ExtensionSettings:
    """Return the settings of tasks to append.

    Args:
        stored: The content of the run's ``settings.yaml``.
        preset: Name or file of a preset whose data the tasks come from; nothing else of it counts.
        overrides: ``key=value`` strings.
        learned: What the tasks so far decide.

    Raises:
        SettingsError: If a setting belongs to the whole run, nothing says which tasks to add, or
            settings cannot be used.
        InputError: If a named file is not there.
    """
    command_line = parse_overrides(overrides)
    _refuse_settings_of_the_run(command_line)
    typed = group(command_line, "data")
    continues = preset is None and not any(key in typed for key in (*_FROM, *_SELECTS))
    if preset is not None:
        layers = [("", {"data": _given(group(stored, "data"), _SHAPE)}), *_data_of(preset)]
        data = dict(group(merge_layers(layers)[0], "data"))
    elif continues:
        data = _next_tasks(stored, command_line, learned)
        command_line = merge(command_line, {"data": {"num_tasks": data["num_tasks"]}})
    else:
        data = _without_choice(_below(group(stored, "data"), typed, learned))
    if learned.channels == _COLOUR and data.get("channels") in (None, "auto"):
        data["channels"] = "rgb"  # grey images among colour ones are made colour
    merged = merge({**stored, "data": data}, command_line)
    settings = build(merged, list(unread.refused(command_line, merged)))
    notes = tuple(unread.noted(command_line, merged, is_typed=True))
    words = ([f"--preset {preset}"] if preset is not None else []) + list(overrides)
    return ExtensionSettings(settings, continues, tuple(words), notes)


def _refuse_settings_of_the_run(command_line: Mapping[str, Any]) -> None:
    """Refuse what only the run as a whole has, and what no run has.

    Raises:
        SettingsError: If there is any.
    """
    keys = [key for key, _ in flatten(command_line) if key.partition(".")[0] not in _OWN]
    if not keys:
        return
    known = tuple(f"{option.key}." for option in all_options())
    unknown = [
        key for key in keys if key not in Settings.model_fields and not f"{key}.".startswith(known)
    ]
    if unknown:
        raise refusal([unknown_key(key) for key in unknown])
    what = "belong to the whole run" if len(keys) > 1 else "belongs to the whole run"
    raise SettingsError(
        f"{', '.join(keys)}: {what}; new tasks may have their own data.* and train.* only",
        "leave it out, or prepare another run: ness prepare --out RUN2 KEY=VALUE",
    )


def _data_of(preset: str) -> list[Layer]:
    """Return the data of a preset and of those that it extends."""
    layers = preset_layers(presets.path_of(preset))
    return [(origin, {"data": dict(group(values, "data"))}) for origin, values in layers]


def _given(data: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: data[key] for key in keys if data.get(key) is not None}


def _below(data: Mapping[str, Any], typed: Mapping[str, Any], learned: Learned) -> dict[str, Any]:
    """Return what holds of the run's data below what was typed: of another source, its form only.

    Tasks of the same files are normalised as those before.
    """
    before = SOURCES.chosen(data)
    source = typed.get("source", _source_of_a_path(before) if "path" in typed else before)
    if source != before:
        found = {"data": {**_given(data, _FORM), "source": before}}
        kept = group(without_foreign_options(found, {"data": {"source": source}}), "data")
        return {**kept, "source": source}
    if not any(key in typed for key in _FROM):
        return {**data, **_constants(data, learned)}
    return dict(data)


def _source_of_a_path(before: str) -> str:
    """Return the source that a path without one means: a public data set is not meant again."""
    is_own = SOURCES.has(before) and not issubclass(
        SOURCES.model(before, setting="data.source"), PublicSettings
    )
    has_path = is_own and "path" in SOURCES.model(before, setting="data.source").model_fields
    return before if has_path and before != "sequence" else "image-folder"


def _without_choice(data: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what chose classes and tasks, but for one number of classes that holds for all tasks."""
    lists = {key for key in _MAYBE_LISTS if isinstance(data.get(key), list)}
    return {key: value for key, value in data.items() if key not in {*_CHOICE, *lists}}


def _constants(data: Mapping[str, Any], learned: Learned) -> dict[str, Any]:
    return {
        "mean": list(learned.mean) if data.get("mean") is None else data["mean"],
        "std": list(learned.std) if data.get("std") is None else data["std"],
    }


def _next_tasks(
    stored: Mapping[str, Any], command_line: Mapping[str, Any], learned: Learned
) -> dict[str, Any]:
    """Return the run's own data with the tasks that come after those that it has.

    Raises:
        SettingsError: If nothing says how many, or all classes are taken.
    """
    data, number = group(stored, "data"), group(command_line, "data").get("num_tasks")
    if number is None or SOURCES.chosen(data) == "sequence":
        build(merge(stored, command_line))  # a mistyped key says more
        raise SettingsError("nothing says which tasks to add", _SAY_WHAT)
    if type(number) is not int or number < 1:
        raise SettingsError(f"data.num_tasks: {number!r} should be a whole number of at least 1")
    is_split = data.get("protocol", "split") == "split"
    if is_split and data.get("num_tasks") is None:
        raise SettingsError(
            "data.num_tasks: the tasks of the run have all classes of its data set", _SAY_WHAT
        )
    total = learned.taken + number
    found = {
        **data,
        **_constants(data, learned),
        "num_tasks": total,
        "task_order": list(range(learned.taken + 1, total + 1)),
    }
    if data.get("protocol") == "rotated":
        # The same step from one angle to the next.
        step = data["max_angle"] / (data.get("num_tasks") or SHARED_LABEL_TASKS)
        found["max_angle"] = step * total
    return found
