"""Layers of settings as nested plain values: defaults < preset < file < key=value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from ness_cli.errors import SettingsError
from ness_cli.settings import presets, unread, yaml_files
from ness_cli.settings.components import CHOICES, METHODS, Component
from ness_cli.settings.values import flatten, group, merge, nest

Layer = tuple[str, dict[str, Any]]  # where its values come from, and the values
COMMAND_LINE = "command line"


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the nested mapping that ``key=value`` strings stand for.

    Of two for the same key the later counts, so that a script's own can be followed by others.

    Raises:
        SettingsError: If one has no ``=`` or an empty key.
    """
    found: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise SettingsError(
                f"{override!r} is not a setting", "write key=value, for example train.lr=0.01"
            )
        found = merge(found, nest(key, yaml_files.parse(text, place=key)))
    return found


def preset_layers(path: Path, seen: tuple[Path, ...] = ()) -> list[Layer]:
    """Return the layers of a preset, each with its origin: those that it extends come first.

    Args:
        path: Its file.
        seen: Presets that extend it.

    Raises:
        SettingsError: If a file cannot be used, or extends itself.
        InputError: If one is not there.
    """
    if path in seen:
        raise SettingsError(f"{path}: 'extends' leads back to the file itself")
    values = yaml_files.read(path)
    values.pop("about", None)
    below: list[tuple[str, dict[str, Any]]] = []
    if "extends" in values:
        below = preset_layers(presets.path_of(str(values.pop("extends"))), (*seen, path))
    origin = f"preset {path.stem}" if presets.is_shipped(path) else f"file {path.name}"
    return [*below, (origin, values)]


def locate(problem: str, *, path: Path, typed: Sequence[str] = ()) -> str:
    """Return what is wrong with a setting, with the file and line that it stands in.

    Args:
        problem: A line that begins with the setting: ``train.lr: 0 should be greater than 0``.
        path: File of the preset.
        typed: Keys on the command line, which count more.
    """
    lines = _lines(path)
    key = problem.partition(": ")[0].partition("[")[0]
    while key and key not in typed:
        if key in lines:
            return f"{problem} ({lines[key]})"
        key = key.rpartition(".")[0]
    return problem


def _lines(path: Path) -> dict[str, str]:
    """Return where every key of a preset stands, with those of the presets that it extends."""
    below = yaml_files.read(path).get("extends")
    lines = {} if below is None else _lines(presets.path_of(str(below)))
    return lines | {
        key: f"{path.name}, line {line}" for key, line in yaml_files.lines(path).items()
    }


def merge_layers(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values of all layers, and the origin of each by its key."""
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        kept = unread.without_unread(without_foreign_options(merged, layer), layer)
        merged = merge(kept, layer)
        origins.update({key: origin for key, _ in flatten(layer)})
    return merged, origins


def settled(layers: Sequence[Layer]) -> set[str]:
    """Return the keys that the method leaves alone, whatever it needs of training.

    Those are what somebody wrote themselves, on the command line or in a file of their own, and
    what the preset that chose the method set with it, or one above.

    Args:
        layers: Lowest first, each with its origin.
    """
    chosen, own, with_method = METHODS.default, set[str](), set[str]()
    for origin, layer in layers:
        name = str(group(layer, "method").get("name", chosen))
        if name != chosen:
            chosen, with_method = name, set()
        keys = {key for key, _ in flatten(layer)}
        with_method |= keys
        if is_own(origin):
            own |= keys
    return own | with_method


def is_own(origin: str) -> bool:
    """Return whether values come from somebody's own hand, not from a preset of ours."""
    return not origin.startswith("preset ")


def components(preset: str | None, overrides: Sequence[str]) -> dict[str, str]:
    """Return the components of a new run, by the key that chooses them.

    Args:
        preset: Name or file of a preset; the default one when ``None``.
        overrides: ``key=value`` strings.

    Raises:
        SettingsError: If any of it cannot be used; values are not looked at otherwise.
        InputError: If a named file is not there.
    """
    command_line = parse_overrides(overrides)
    path = presets.path_of(preset or presets.default(command_line))
    merged, _ = merge_layers([*preset_layers(path), (COMMAND_LINE, command_line)])
    return {
        key: component.chosen(group(merged, key.partition(".")[0]))
        for key, component in CHOICES.items()
    }


def without_foreign_options(
    below: Mapping[str, Any], above: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Drop options of a component that the layer above replaces by another one.

    ``net.name=alexnet`` on a preset with an ``mlp`` leaves its widths behind; what the new one has
    too (``classes_per_task`` of a data source) carries over. An option of the same name that takes
    another kind of value is another option: AlexNet's ``width`` is a factor, ResNet18's a count.
    """
    kept = dict(below)
    for key, component in CHOICES.items():
        section, _, name_key = key.partition(".")
        old, new = group(below, section), group(above, section)
        if name_key not in new or not old or component is METHODS:
            continue
        name, before = str(new[name_key]), component.chosen(old)
        if component.has(name) and name != before:
            ours = _kinds_of_options(component, name)
            theirs = _kinds_of_options(component, before) if component.has(before) else ours
            shared = {key for key in ours if ours[key] & theirs.get(key, set())}
            kept[section] = {key: value for key, value in old.items() if key in shared}
    return kept


def _kinds_of_options(component: Component, name: str) -> dict[str, set[Any]]:
    """Return the kinds of values that each option of a component takes."""
    fields = component.model(name, setting=component.key).model_fields
    return {key: _kinds(field.annotation) for key, field in fields.items()}


def _kinds(annotation: Any) -> set[Any]:
    """Return the types of a union without ``None``, each without its bounds."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _kinds(parts[0])
    if get_origin(annotation) in (Union, UnionType):
        return {kind for part in parts if part is not NoneType for kind in _kinds(part)}
    return {annotation}
