"""Settings of a run, from layers: defaults < preset < file < key=value, each origin kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ness_cli import registry
from ness_cli.errors import SettingsError
from ness_cli.hashing import sha256_of_text
from ness_cli.settings import presets, protocols, yaml_files
from ness_cli.settings.about import About
from ness_cli.settings.base import Section
from ness_cli.settings.groups import (
    COMPONENT_KEYS,
    COMPONENT_SECTIONS,
    DEFAULT_COMPONENTS,
    KEYS,
    METHODS,
    PLAIN_SECTIONS,
    options_model,
)
from ness_cli.settings.layers import (
    COMMAND_LINE,
    chosen,
    default_preset,
    flatten,
    locate,
    merge,
    merge_layers,
    nested,
    parse_overrides,
    preset_layers,
    settled,
    without_foreign_options,
)
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.nets.base import NetSettings
from ness_cli.settings.sections import (
    CheckpointSettings,
    ComputeSettings,
    EvaluateSettings,
    MethodSettings,
    NormSettings,
    StorageSettings,
    TrainSettings,
)
from ness_cli.settings.sources.base import DataSettings
from ness_cli.settings.suggest import leaves, unknown_key
from ness_cli.settings.validate import refusal, validate


@dataclass(frozen=True)
class Settings:
    """Everything that was asked of a run; see the section models for the meaning of each field."""

    seed: int
    data: DataSettings
    net: NetSettings
    norm: NormSettings
    train: TrainSettings
    compute: ComputeSettings
    method: MethodSettings
    methods: Mapping[str, MethodOptions]
    evaluate: EvaluateSettings
    storage: StorageSettings
    checkpoint: CheckpointSettings

    @property
    def options(self) -> MethodOptions:
        """Options of the chosen method."""
        return self.methods[self.method.name]

    @property
    def notes(self) -> list[str]:
        """What every report must say of the method and of how it was computed."""
        return [*self.options.notes(), *self.compute.notes()]

    @property
    def stream(self) -> DataSettings:
        """Settings of the data, with the run's seed where they ask for it."""
        return self.data.for_run(self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, as they stand in ``settings.yaml``."""
        plain: dict[str, Any] = {"seed": self.seed}
        for name in (*COMPONENT_SECTIONS, *PLAIN_SECTIONS):
            plain[name] = getattr(self, name).model_dump(mode="json")
        plain["methods"] = {
            name: group.model_dump(mode="json") for name, group in sorted(self.methods.items())
        }
        return plain

    @property
    def _groups(self) -> dict[str, Section]:
        """Every group of settings by what stands before its keys."""
        groups: dict[str, Section] = {
            f"{name}.": getattr(self, name) for name in (*COMPONENT_SECTIONS, *PLAIN_SECTIONS)
        }
        return groups | {f"methods.{name}.": self.methods[name] for name in sorted(self.methods)}

    def flat(self) -> dict[str, Any]:
        """Return plain values by the keys that they are typed with; ``identity`` is finer."""
        found: dict[str, Any] = {"seed": self.seed}
        for prefix, group in self._groups.items():
            found |= group.flat(prefix)
        return found

    def in_effect(self) -> dict[str, Any]:
        """Return what settings that are null amount to, by key, where the settings decide that."""
        return {
            f"{prefix}{key}": value
            for prefix, group in self._groups.items()
            for key, value in group.in_effect().items()
        }

    def identity(self) -> dict[str, Any]:
        """Return the part that decides the run's tensors, flat: ``{"train.lr": 0.01, ...}``.

        Options of methods that were not chosen, where the data lies, how often to save and what to
        keep do not belong to it.
        """
        plain = self.to_dict()
        plain["methods"] = {self.method.name: plain["methods"][self.method.name]}
        plain["evaluate"] = {"batch_size": self.evaluate.batch_size}
        plain["data"] = self.data.identity()
        del plain["storage"], plain["checkpoint"]
        return dict(flatten(plain))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the identity, in hexadecimal."""
        return sha256_of_text(json.dumps(self.identity(), sort_keys=True))


@dataclass(frozen=True)
class Resolved:
    """Settings, and where each value came from (``default``, ``preset digits``, ...)."""

    settings: Settings
    origins: Mapping[str, str]
    preset: str
    about: About
    notes: tuple[str, ...] = ()
    """What should be said of how they came about."""


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
    path = presets.path_of(preset or default_preset(command_line))
    if seed is not None:
        command_line["seed"] = seed
    layers = [*preset_layers(path), (COMMAND_LINE, command_line)]
    merged, origins = merge_layers(layers)
    located = partial(locate, path=path, typed=[key for key, _ in flatten(command_line)])
    merged, origins, notes = _adjusted(merged, origins, settled(layers))
    settings = build(merged, list(protocols.unread(merged, merged)), located)
    return Resolved(
        settings=settings,
        origins={key: origins.get(key, "default") for key, _ in flatten(settings.to_dict())},
        preset=path.stem,
        about=about_of(path),
        notes=notes,
    )


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
    if chosen(merged, "method") != chosen(stored, "method"):
        merged, origins, notes = _adjusted(merged, origins, settled([(COMMAND_LINE, command_line)]))
    settings = build(merged, list(protocols.unread(command_line, merged)))
    return Resolved(settings, origins, about["preset"], About(), notes)


def _adjusted(
    merged: dict[str, Any], origins: dict[str, str], kept: Collection[str]
) -> tuple[dict[str, Any], dict[str, str], tuple[str, ...]]:
    """Return values and origins with what the method needs of training, and a note that says so.

    Args:
        merged: Nested plain values of all layers.
        origins: Where each comes from, by key.
        kept: Keys that the method leaves alone.
    """
    problems: list[str] = []
    train = validate(TrainSettings, merged.get("train", {}), "train", problems)
    name = chosen(merged, "method")
    model = _options_model(METHODS, name, "method.name", problems)
    methods = merged.get("methods", {})
    values = methods.get(name) if isinstance(methods, Mapping) else None
    options = model and validate(model, values or {}, f"methods.{name}", problems)
    if not isinstance(train, TrainSettings) or not isinstance(options, MethodOptions):
        return merged, origins, ()  # what is wrong is said where all of it is validated
    before = train.flat("train.")
    wanted = dict(flatten({"train": options.adjustments(train)}))
    changed = {k: v for k, v in wanted.items() if k not in kept and before.get(k) != v}
    for key, value in changed.items():
        merged = merge(merged, nested(key, value))
    note = _adjustment_note(name, changed, before, origins)
    return merged, {**origins, **dict.fromkeys(changed, f"method {name}")}, note


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
        SettingsError: With every problem of every section, one per line.
    """
    strange = {key: value for key, value in raw.items() if key not in KEYS}
    problems = [unknown_key(key) for key in leaves(strange)]
    for key in (*COMPONENT_SECTIONS, *PLAIN_SECTIONS, "methods"):
        if not isinstance(raw.get(key, {}), Mapping):
            problems.append(
                f"{key}: expected a group of settings, got {raw[key]!r}{_meant(key, raw)}"
            )
    if problems:
        raise refusal([located(each) for each in (*found, *problems)])

    problems = [*found]
    built: dict[str, Any] = {"seed": raw.get("seed", 1)}
    if type(built["seed"]) is not int or built["seed"] < 0:
        problems.append(f"seed: {built['seed']!r} is not a whole number from 0 up")
    for key, (package, name_key) in COMPONENT_SECTIONS.items():
        values = dict(raw.get(key, {}))
        name = values.setdefault(name_key, DEFAULT_COMPONENTS[key])
        model = _options_model(package, name, f"{key}.{name_key}", problems)
        if model is not None:
            built[key] = validate(model, values, key, problems)
    for key, section in PLAIN_SECTIONS.items():
        built[key] = validate(section, raw.get(key, {}), key, problems)
    built["methods"] = _method_groups(raw.get("methods", {}), built["method"], problems)
    if not problems:
        problems += built["methods"][built["method"].name].problems(built["train"])
    if problems:
        raise refusal([located(each) for each in problems])
    return Settings(**built)


def _meant(key: str, raw: Mapping[str, Any]) -> str:
    """Return the setting that chooses a component, where its section was given a name."""
    chooser = next((each for each in COMPONENT_KEYS if each.startswith(f"{key}.")), "")
    is_name = bool(chooser) and isinstance(raw[key], str)
    return f"; did you mean {chooser}={raw[key]}?" if is_name else ""


def _method_groups(
    raw: Mapping[str, Any], chosen: Section | None, problems: list[str]
) -> dict[str, MethodOptions]:
    """Validate the option groups that are there, and that of the chosen method."""
    groups = dict(raw)
    if isinstance(chosen, MethodSettings):
        groups.setdefault(chosen.name, {})
    built: dict[str, MethodOptions] = {}
    for name, values in groups.items():
        place = f"methods.{name}" if name in raw else "method.name"
        if name in raw and values and name not in registry.names(METHODS):
            problems += [unknown_key(key) for key in leaves({place: values})]
            continue
        model = _options_model(METHODS, name, place, problems)
        options = None if model is None else validate(model, values or {}, place, problems)
        if isinstance(options, MethodOptions):
            built[name] = options
    return built


def about_of(path: Path) -> About:
    """Return what a preset says about itself; it is not taken from a preset that it extends.

    Raises:
        SettingsError: If it cannot be used.
    """
    problems: list[str] = []
    about = validate(About, yaml_files.read(path).get("about", {}), "about", problems)
    if not isinstance(about, About):
        raise refusal([locate(each, path=path) for each in problems])
    return about


def _options_model(
    package: str, name: object, place: str, problems: list[str]
) -> type[Section] | None:
    try:
        return options_model(package, str(name), place=place)
    except SettingsError as error:
        problems.append(f"{error.what} ({error.remedy})")
        return None
