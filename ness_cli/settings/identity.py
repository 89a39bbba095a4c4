"""Identities of runs, compared although settings have been added since one of them was stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ness_cli.settings import yaml_files
from ness_cli.settings.base import Section
from ness_cli.settings.components import CHOICES, METHODS, SOURCES
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.model import PLAIN_GROUPS
from ness_cli.settings.sources.base import without_locations
from ness_cli.settings.values import flatten

# Once false by default, now decided by the device unless it is given: a run that was made with a
# value goes on with it, whatever would be the default today.
_KEPT_BY_THE_RUN = "compute.channels_last"


def difference(mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return one line per key in which two flat identities differ.

    A key that only one of them knows is a setting that came later; the other has its default.
    Where they differ in method, network or data source, the options that follow from that say
    nothing more: only these names are given.

    Args:
        mine: That of a run.
        other: That of the settings asked for.
    """
    run, asked = completed(mine), completed(other)
    return [
        f"{key}: {_shown(run, key)} in the run, {_shown(asked, key)} asked for"
        for key in differing_keys(mine, other)
    ]


def differing_keys(mine: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the keys in which two flat identities differ, as ``difference`` tells them."""
    absent, run, asked = object(), completed(mine), completed(other)
    if asked.get(_KEPT_BY_THE_RUN) is None:
        asked[_KEPT_BY_THE_RUN] = run[_KEPT_BY_THE_RUN]
    keys = [
        key for key in sorted({*mine, *other}) if run.get(key, absent) != asked.get(key, absent)
    ]
    return [key for key in keys if key in CHOICES] or keys


def _shown(identity: Mapping[str, Any], key: str) -> str:
    return yaml_files.typed(identity[key]) if key in identity else "(absent)"


def completed(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return an identity with the defaults of all settings that it does not know."""
    found = dict(identity)
    for prefix, model in _models(identity):
        for key, value in flatten(_defaults(model), f"{prefix}."):
            found.setdefault(key, value)
    if isinstance(found.get("data.sources"), list):
        found["data.sources"] = [
            without_locations({**_defaults(_source(each)), **each})
            for each in found["data.sources"]
        ]
    return found


def method_label(name: str, identity: Mapping[str, Any]) -> str:
    """Return what tables call the method of a run: its name and its variant, ``ness bounded``.

    Args:
        name: Its name; of one that this version does not have nothing more is known.
        identity: That of the run, flat.
    """
    options = method_options(name, identity)
    return name if options is None else f"{name} {options.variant}".strip()


def method_options(name: str, identity: Mapping[str, Any]) -> MethodOptions | None:
    """Return the options of a run's method; ``None`` for one that this version does not have.

    Args:
        name: Its name.
        identity: That of the run, flat.
    """
    if not METHODS.has(name):
        return None
    model, prefix = METHODS.model(name, setting="method.name"), f"methods.{name}."
    known = {k: identity[prefix + k] for k in model.model_fields if prefix + k in identity}
    # Not validated: a run of another version may hold what this one would refuse.
    options = model.model_construct(**known)
    assert isinstance(options, MethodOptions)
    return options


def _models(identity: Mapping[str, Any]) -> Iterator[tuple[str, type[Section]]]:
    """Yield the model of every group of settings that the identity has values of."""
    yield from PLAIN_GROUPS.items()
    for key, component in CHOICES.items():
        name = identity.get(key)
        if not component.has(name):  # of a package that is not installed here
            continue
        section = f"methods.{name}" if component is METHODS else key.partition(".")[0]
        yield section, component.model(str(name), setting=key)


def _source(each: Mapping[str, Any]) -> type[Section]:
    return SOURCES.model(each["source"], setting="data.source")


def _defaults(model: type[Section]) -> dict[str, Any]:
    default = model.of_defaults()
    return default.model_dump(mode="json", include=default.model_fields_set)
