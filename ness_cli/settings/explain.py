"""Every setting explained: its key as it is typed, what it may be, its default, what it means.

All of it comes from the models: the docstring under a field is its explanation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import create_model

from ness_cli.settings.base import Section, is_section
from ness_cli.settings.components import CHOICES, METHODS
from ness_cli.settings.kinds import choices_of, kind_of
from ness_cli.settings.model import PLAIN_GROUPS, Settings
from ness_cli.settings.yaml_files import typed


@dataclass(frozen=True)
class Option:
    """A setting.

    Attributes:
        key: As it is typed: ``train.sam.rho``.
        kind: What its value may be, as it would be typed: ``number > 0 | null``.
        text: What it means.
        default: Its value where none is given, plain; ``None`` also if it is required.
        choices: Words that it may be.
        is_required: Whether a value must be given.
        in_effect: What a default that is null amounts to, where that is known.
        components: Those that have it in just this form, as ``data.source=npz``; empty for all.
    """

    key: str
    kind: str
    text: str
    default: Any
    choices: tuple[str, ...] = ()
    is_required: bool = False
    in_effect: Any = None
    components: tuple[str, ...] = ()

    @property
    def assignment(self) -> str:
        """The setting with what its default amounts to, or with a place to fill in."""
        return f"{self.key}={'...' if self.is_required else typed(self.value)}"

    @property
    def value(self) -> Any:
        """The default, or what it amounts to where it is null."""
        return self.default if self.in_effect is None else self.in_effect

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "type": self.kind,
            "choices": list(self.choices),
            "default": self.default,
            "required": self.is_required,
            "in_effect": self.value,
            "explanation": self.text,
        }


def options_of(model: type[Section], prefix: str) -> Iterator[Option]:
    """Yield the settings of a model, but not the name of the component that it is of.

    Args:
        model: The model.
        prefix: What stands before its fields on the command line: ``train.``.
    """
    schema = _schema_of(model)
    in_effect = model.of_defaults().in_effect()
    for name, field in model.model_fields.items():
        own, inner, key = schema["properties"][name], field.annotation, f"{prefix}{name}"
        if is_section(inner):
            yield from options_of(inner, f"{key}.")
        elif "const" not in own:
            names = _names_for(key)
            yield Option(
                key=key,
                kind=" | ".join(names) or kind_of(own, schema.get("$defs", {})),
                text=plain(field.description),
                default=own.get("default"),
                choices=names or choices_of(own),
                is_required=field.is_required(),
                in_effect=in_effect.get(name),
            )


@cache
def _schema_of(model: type[Section]) -> dict[str, Any]:
    return model.model_json_schema()


def all_options(components: Mapping[str, str] | None = None) -> list[Option]:
    """Return the settings that a run has, or all there are, in the order of the sections.

    Args:
        components: Those of the run, by the key that chooses them: ``{"net.name": "mlp"}``. When
            ``None``, all: a setting in which they differ is there more than once.
    """

    def chosen(key: str) -> list[str]:
        return CHOICES[key].names() if components is None else [components[key]]

    found: list[Option] = []
    for name, field in Settings.model_fields.items():
        if name in PLAIN_GROUPS:
            found += options_of(PLAIN_GROUPS[name], f"{name}.")
        elif name == "methods":
            for method in chosen("method.name"):
                model = METHODS.model(method, setting="method.name")
                found += options_of(model, f"methods.{method}.")
        elif field.metadata and field.metadata[0] in CHOICES.values():
            key = f"{name}.{field.metadata[0].key}"
            found += [_choice(key, field.annotation), *_of_components(key, chosen(key))]
        else:
            definition: Any = {name: (field.annotation, field)}
            found += options_of(create_model("Alone", __base__=Section, **definition), "")
    return found


def _choice(key: str, base: Any) -> Option:
    """Return the setting that chooses the component of a group.

    Args:
        key: As it is typed: ``net.name``.
        base: Model that those of all its components extend.
    """
    names, field = _names_for(key), base.model_fields[CHOICES[key].key]
    text, default = plain(field.description), CHOICES[key].default
    return Option(key, " | ".join(names), text, default, choices=names)


def _of_components(key: str, names: Sequence[str]) -> list[Option]:
    """Return the settings of several components, those that are alike once."""
    alike: dict[str, list[Option]] = {}
    owners: dict[str, list[str]] = {}
    for name in names:
        model = CHOICES[key].model(name, setting=key)
        for option in options_of(model, f"{key.partition('.')[0]}."):
            variants = alike.setdefault(option.key, [])
            if option not in variants:
                variants.append(option)
            owners.setdefault(repr(option), []).append(f"{key}={name}")
    return [
        option
        if len(owners[repr(option)]) == len(names)
        else replace(option, components=tuple(owners[repr(option)]))
        for variants in alike.values()
        for option in variants
    ]


def _names_for(key: str) -> tuple[str, ...]:
    return tuple(CHOICES[key].names()) if key in CHOICES else ()


def plain(text: str | None) -> str:
    """Return a docstring as it is read on a terminal: one paragraph, code as it is typed."""
    return " ".join((text or "").replace("``", "`").split())
