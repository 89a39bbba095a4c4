"""Settings of a run, from layers: defaults < preset < file < key=value, each origin kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ness_cli.settings import presets, unread, yaml_files
from ness_cli.settings.model import Settings
from ness_cli.settings.precedence import (
    COMMAND_LINE,
    Layer,
    is_own,
    locate,
    merge_layers,
    parse_overrides,
    preset_layers,
    settled,
    without_foreign_options,
)
from ness_cli.settings.reproduction import About
from ness_cli.settings.sections import TrainSettings
from ness_cli.settings.validate import refusal, validate
from ness_cli.settings.values import flatten, group, merge, nest


@dataclass(frozen=True)
class Resolved:
    """Settings, and where each value came from (``default``, ``preset digits``, ...)."""

    settings: Settings
    origins: Mapping[str, str]
    preset: str
    about: About
    notes: tuple[str, ...] = ()
    """What should be said of how they came about."""


@dataclass(frozen=True)
class Base:
    """A preset that has been read: what several sets of settings start from.

    Attributes:
        path: Its file.
        layers: Its values, those of presets that it extends first.
        about: What it says about itself.
    """

    path: Path
    layers: tuple[Layer, ...]
    about: About

    @classmethod
    def read(cls, preset: str) -> Base:
        """Read a preset by name or file; errors as in ``resolve``."""
        path = presets.path_of(preset)
        return cls(path, tuple(preset_layers(path)), about_of(path))

    def resolve(self, command_line: Mapping[str, Any]) -> Resolved:
        """Build the settings of a new run; errors as in ``resolve``.

        Args:
            command_line: Nested plain values, which count more.
        """
        layers = [*self.layers, (COMMAND_LINE, dict(command_line))]
        merged, origins = merge_layers(layers)
        typed = [key for key, _ in flatten(command_line)]
        located = partial(locate, path=self.path, typed=typed)
        before, _ = merge_layers([layer for layer in layers if not is_own(layer[0])])
        merged, origins, notes = _adjusted(merged, origins, settled(layers), before)
        settings = build(merged, list(unread.refused(merged, merged, typed)), located)
        return Resolved(
            settings=settings,
            origins={key: origins.get(key, "default") for key, _ in flatten(settings.to_dict())},
            preset=self.path.stem,
            about=self.about,
            notes=(*notes, *_unread_notes(layers, merged)),
        )


def resolve(preset: str | None, overrides: Sequence[str] = (), seed: int | None = None) -> Resolved:
    """Build the settings of a new run.

    Args:
        preset: Name or file of a preset; when ``None`` the default preset, or that for your own
            images if ``overrides`` choose another source or a path. A file may open with
            ``extends: NAME`` to change a few values of another preset.
        overrides: ``key=value`` strings, the values in YAML: ``net.hidden=[64, 64]``.
        seed: The run's seed, if given apart from ``overrides``.

    Raises:
        SettingsError: With every problem found, at once.
        InputError: If a named file is not there.
    """
    command_line = parse_overrides(overrides)
    base = Base.read(preset or presets.default(command_line))
    return base.resolve(command_line if seed is None else {**command_line, "seed": seed})


def resolve_again(
    stored: Mapping[str, Any], about: Mapping[str, Any], overrides: Sequence[str], seed: int | None
) -> Resolved:
    """Build the settings of a run that exists, from its own and the changes asked for.

    Args:
        stored: The content of its ``settings.yaml``.
        about: The content of its ``run.json``.
        overrides: ``key=value`` strings.
        seed: Another seed, for a sibling of the run.

    Raises:
        SettingsError: With every problem found, at once.
    """
    command_line = parse_overrides(overrides)
    if seed is not None:
        command_line["seed"] = seed
    merged = merge(without_foreign_options(stored, command_line), command_line)
    origins = {**about["origins"], **{key: COMMAND_LINE for key, _ in flatten(command_line)}}
    notes: tuple[str, ...] = ()
    if group(merged, "method") != group(stored, "method"):
        kept = settled([(COMMAND_LINE, command_line)])
        merged, origins, notes = _adjusted(merged, origins, kept, stored)
    settings = build(merged, list(unread.refused(command_line, merged)))
    notes += tuple(unread.noted(command_line, merged, is_typed=True))
    return Resolved(settings, origins, about["preset"], About(), notes)


def _adjusted(
    merged: dict[str, Any],
    origins: dict[str, str],
    kept: Collection[str],
    before: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, str], tuple[str, ...]]:
    """Return values and origins with what the method needs of training, and a note that says so.

    Whoever types the optimiser that the method needs gets the rate that goes with it, as without;
    whoever types one of another kind keeps the rate that there is.

    Args:
        merged: Nested plain values of all layers.
        origins: Where each comes from, by key.
        kept: Keys that the method leaves alone.
        before: Nested plain values without what somebody wrote themselves.
    """
    settings = validate(Settings, merged, [])
    if settings is None:
        return merged, origins, ()  # what is wrong is said where it is validated again
    name, train = settings.method.name, settings.train
    now = train.flat("train.")
    own = group(before, "train").get("optimizer", TrainSettings().optimizer)
    asked = train.model_copy(update={"optimizer": own})
    wanted = dict(flatten({"train": settings.options.adjustments(asked)}))
    needed = train.model_copy(update={"optimizer": wanted.get("train.optimizer", own)})
    if "train.optimizer" in kept and needed.is_adaptive != train.is_adaptive:
        wanted.pop("train.lr", None)
    changed = {k: v for k, v in wanted.items() if k not in kept and now.get(k) != v}
    for key, value in changed.items():
        merged = merge(merged, nest(key, value))
    note = _adjustment_note(name, changed, now, origins)
    return merged, {**origins, **dict.fromkeys(changed, f"method {name}")}, note


def _unread_notes(layers: Sequence[Layer], merged: Mapping[str, Any]) -> Iterator[str]:
    """Yield what somebody set, in a file of their own or on the command line, without effect.

    Args:
        layers: Lowest first.
        merged: All of them, as they are validated.
    """
    for index, (origin, layer) in enumerate(layers):
        if origin == COMMAND_LINE:
            yield from unread.noted(layer, merged, is_typed=True)
        elif is_own(origin):
            # What is typed beside a file does not make the file wrong.
            yield from unread.noted(layer, merge_layers(layers[: index + 1])[0], is_typed=False)


def _adjustment_note(
    method: str, changed: Mapping[str, Any], before: Mapping[str, Any], origins: Mapping[str, str]
) -> tuple[str, ...]:
    """Return what a method switched, and what it was; nothing if it switched nothing."""
    if not changed:
        return ()
    owners: dict[str, list[str]] = {}
    for key in changed:
        words = yaml_files.typed(before.get(key))
        owners.setdefault(origins.get(key, "default"), []).append(words)
    had = "; ".join(f"the {owner} has {', '.join(values)}" for owner, values in owners.items())
    now = " ".join(f"{key}={yaml_files.typed(value)}" for key, value in changed.items())
    return (f"{method} trains with {now} ({had})",)


def build(
    raw: Mapping[str, Any], found: Sequence[str] = (), located: Callable[[str], str] = str
) -> Settings:
    """Validate nested plain values and return settings, defaults filled in.

    Args:
        raw: The values, without defaults or with them.
        found: Problems found before, a line each.
        located: Called with every problem, to add the file and line that it comes from.

    Raises:
        SettingsError: With every problem of every group, one per line.
    """
    problems = [*found]
    settings = validate(Settings, raw, problems)
    if settings is not None:
        problems += settings.options.problems(settings.train)
    if settings is None or problems:
        raise refusal([located(each) for each in problems])
    return settings


def about_of(path: Path) -> About:
    """Return what a preset says about itself; it is not taken from a preset that it extends.

    Raises:
        SettingsError: If it cannot be used.
    """
    problems: list[str] = []
    about = validate(About, yaml_files.read(path).get("about", {}), problems, "about")
    if about is None:
        raise refusal([locate(each, path=path) for each in problems])
    return about
