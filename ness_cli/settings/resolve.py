"""Settings of a run, from layers: defaults < preset < file < key=value, each origin kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli import registry
from ness_cli.errors import SettingsError
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

    def in_effect(self) -> dict[str, Any]:
        """Return what settings that are null amount to, by key, where the settings decide that."""
        groups = {name: getattr(self, name) for name in (*COMPONENT_SECTIONS, *PLAIN_SECTIONS)}
        groups |= {f"methods.{name}": group for name, group in self.methods.items()}
        return {
            f"{name}.{key}": value
            for name, group in groups.items()
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
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Resolved:
    """Settings, and where each value came from (``default``, ``preset digits``, ...)."""

    settings: Settings
    origins: Mapping[str, str]
    preset: str
    about: About


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``("train.lr", value)`` for every leaf of a nested mapping, in order."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
    path = presets.path_of(preset or _default_preset(command_line))
    layers = _preset_layers(path, seen=())
    if seed is not None:
        command_line["seed"] = seed
    layers.append(("command line", command_line))
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        kept = protocols.without_unread(_without_foreign_options(merged, layer), layer)
        merged = _merge(kept, layer)
        origins.update({key: origin for key, _ in flatten(layer)})
    settings = build(merged, list(protocols.unread(merged, merged)))
    return Resolved(
        settings=settings,
        origins={key: origins.get(key, "default") for key, _ in flatten(settings.to_dict())},
        preset=path.stem,
        about=about_of(path),
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
    merged = _merge(_without_foreign_options(stored, command_line), command_line)
    settings = build(merged, list(protocols.unread(command_line, merged)))
    changed = {key: "command line" for key, _ in flatten(command_line)}
    return Resolved(settings, {**about["origins"], **changed}, about["preset"], About())


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the nested mapping that ``key=value`` strings stand for.

    Raises:
        SettingsError: If one has no ``=`` or an empty key, or two contradict each other.
    """
    nested: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise SettingsError(
                f"{override!r} is not a setting", "write key=value, for example train.lr=0.01"
            )
        value = yaml_files.parse(text, place=key)
        for part in reversed(key.split(".")):
            value = {part: value}
        _refuse_two_values(nested, value)
        nested = _merge(nested, value)
    return nested


def _refuse_two_values(first: Mapping[str, Any], second: Mapping[str, Any], at: str = "") -> None:
    """Refuse two values of one key: on one command line the later does not silently win.

    Raises:
        SettingsError: If there are any.
    """
    for key in first.keys() & second.keys():
        one, other = first[key], second[key]
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            _refuse_two_values(one, other, f"{at}{key}.")
        elif one != other:
            values = f"{yaml_files.typed(one)} and {yaml_files.typed(other)}"
            raise SettingsError(f"{at}{key} is given twice: {values}", "leave one of them out")


def build(raw: Mapping[str, Any], found: Sequence[str] = ()) -> Settings:
    """Validate nested plain values and return settings, defaults filled in.

    Args:
        raw: The values, without defaults or with them.
        found: Problems found before, a line each.

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
        raise refusal([*found, *problems])

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
        raise refusal(problems)
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
        raise refusal(problems)
    return about


def _preset_layers(path: Path, seen: tuple[Path, ...]) -> list[tuple[str, dict[str, Any]]]:
    if path in seen:
        raise SettingsError(f"{path}: 'extends' leads back to the file itself")
    values = yaml_files.read(path)
    values.pop("about", None)
    below: list[tuple[str, dict[str, Any]]] = []
    if "extends" in values:
        below = _preset_layers(presets.path_of(str(values.pop("extends"))), (*seen, path))
    origin = f"preset {path.stem}" if presets.is_shipped(path) else f"file {path.name}"
    return [*below, (origin, values)]


def _default_preset(command_line: Mapping[str, Any]) -> str:
    """Return the preset for images of one's own where they are meant: the digits have no path."""
    data = command_line.get("data")
    if not isinstance(data, Mapping):
        return presets.DEFAULT
    own = data.get("source", "image-folder" if "path" in data else "digits") != "digits"
    return presets.OWN_IMAGES if own else presets.DEFAULT


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _without_foreign_options(
    below: Mapping[str, Any], above: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Drop options of a component that the layer above replaces by another one.

    ``net.name=alexnet`` on a preset with an ``mlp`` leaves its widths behind; what the new one has
    too (``classes_per_task`` of a data source) carries over.
    """
    kept = dict(below)
    for section, (package, name_key) in COMPONENT_SECTIONS.items():
        old, new = below.get(section), above.get(section)
        if not isinstance(old, Mapping) or not isinstance(new, Mapping) or name_key not in new:
            continue
        model = _options_model(package, new[name_key], section, problems=[])
        if model is not None and new[name_key] != old.get(name_key, DEFAULT_COMPONENTS[section]):
            kept[section] = {key: value for key, value in old.items() if key in model.model_fields}
    return kept


def _options_model(
    package: str, name: object, place: str, problems: list[str]
) -> type[Section] | None:
    try:
        return options_model(package, str(name), place=place)
    except SettingsError as error:
        problems.append(f"{error.what} ({error.remedy})")
        return None
