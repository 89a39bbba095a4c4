"""Settings that have no effect beside others: refused or noted where somebody set them.

A field says what it needs with ``only_with``. Where the protocol of the data decides, such a
setting is refused, and one of a lower layer goes with the protocol that it was for; elsewhere it is
worth a note if somebody wrote it themselves. A default is never at fault, nor is its value in a
file: that of a run holds every setting.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ness_cli.settings.base import ANYTHING, Section, is_section
from ness_cli.settings.components import CHOICES, METHODS, SOURCES
from ness_cli.settings.model import PLAIN_GROUPS
from ness_cli.settings.values import flatten, group
from ness_cli.settings.yaml_files import typed

_REFUSED = "protocol"  # what stands in the way decides on the tasks themselves


@dataclass(frozen=True)
class Unread:
    """A setting without effect: its key and value, what stands in the way, and what would not.

    And whether the value is what it would be anyway.
    """

    key: str
    value: Any
    other: str
    stands: Any
    needed: str
    is_default: bool = False

    def __str__(self) -> str:
        remedy = f"set {self.other}" + ("" if self.needed == ANYTHING else f"={self.needed}")
        return (
            f"{self.key}: {self.value!r} has no effect with {self.other}={typed(self.stands)}; "
            f"leave it out, or {remedy}"
        )


def refused(
    changed: Mapping[str, Any], whole: Mapping[str, Any], typed: Collection[str] | None = None
) -> Iterator[str]:
    """Yield a line for every setting of the data that its protocol does not read.

    Args:
        changed: Nested plain values of all groups, as somebody set them.
        whole: The same with everything below them.
        typed: Keys of those that were typed, whose defaults are refused too; ``None``: all.
    """
    data, items = group(changed, "data"), group(changed, "data").get("sources")
    groups = [("data", data, group(whole, "data"))]
    for index, item in enumerate(items if isinstance(items, list | tuple) else ()):
        if isinstance(item, Mapping):
            groups.append((f"data.sources[{index}]", item, item))
    for prefix, own, values in groups:
        name = SOURCES.chosen(values)
        if SOURCES.has(name):
            found = _unread(SOURCES.model(name, setting=prefix), own, values, prefix)
            for each in found:
                if _is_refused(each) and (
                    typed is None or each.key in typed or not each.is_default
                ):
                    yield str(each)


def noted(changed: Mapping[str, Any], whole: Mapping[str, Any], *, is_typed: bool) -> Iterator[str]:
    """Yield a line for every other setting changed that has no effect.

    Args:
        changed: Nested plain values of all groups, as somebody set them.
        whole: Those of settings that can be used, with everything below.
        is_typed: Whether they were typed; a file may have options of several methods.
    """
    groups = dict(PLAIN_GROUPS)
    for key, component in CHOICES.items():
        section, name = key.partition(".")[0], component.chosen(group(whole, key.partition(".")[0]))
        model = component.model(name, setting=key)
        groups |= {f"methods.{name}" if component is METHODS else section: model}
    for prefix, model in groups.items():
        own, values = changed, whole
        for part in prefix.split("."):
            own, values = group(own, part), group(values, part)
        found = _unread(model, own, values, prefix)
        for each in found:
            if not _is_refused(each) and (is_typed or not each.is_default):
                yield str(each)
    chosen = METHODS.chosen(group(whole, "method"))
    for name, options in group(changed, "methods").items():
        if is_typed and name != chosen:
            for key, value in flatten({f"methods.{name}": options}):
                yield str(Unread(key, value, "method.name", chosen, name))


def without_unread(below: Mapping[str, Any], above: Mapping[str, Any]) -> Mapping[str, Any]:
    """Drop what a lower layer set for a protocol that the layer above replaces.

    Args:
        below: Nested plain values of all groups, merged so far.
        above: The next layer.
    """
    old, new = group(below, "data"), group(above, "data")
    name = SOURCES.chosen({**old, **new})
    if not old or not new or not SOURCES.has(name):
        return below
    found = _unread(SOURCES.model(name, setting="data.source"), old, {**old, **new}, "data")
    gone = {each.key for each in found if _is_refused(each)}
    return {**below, "data": {k: value for k, value in old.items() if f"data.{k}" not in gone}}


def _unread(
    model: type[Section], changed: Mapping[str, Any], whole: Mapping[str, Any], prefix: str
) -> Iterator[Unread]:
    """Yield the settings of a group, and of those inside it, that have no effect."""
    for name, value in changed.items():
        field = model.model_fields.get(name)
        inner = None if field is None else field.annotation
        if is_section(inner):
            own = group(changed, name)
            yield from _unread(inner, own, group(whole, name), f"{prefix}.{name}")
        for other, needed in model.needs(name).items():
            stands = whole.get(other, model.model_fields[other].get_default())
            if stands not in needed and not (needed == [ANYTHING] and stands):
                key, default = f"{prefix}.{name}", model.model_fields[name].get_default()
                is_default = value == default
                yield Unread(key, value, f"{prefix}.{other}", stands, needed[0], is_default)


def _is_refused(each: Unread) -> bool:
    return each.other.endswith(f".{_REFUSED}")
