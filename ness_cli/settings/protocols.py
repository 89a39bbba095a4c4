"""Settings of the data that only one protocol reads: refused where nothing would come of them.

Only what somebody set counts, on the command line or in a preset; a default is never at fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ness_cli.settings.components import SOURCES

_READ_BY = {"classes_per_task": "split", "max_angle": "rotated"}


def unread(changed: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for every setting asked for that its protocol does not read.

    Args:
        changed: Nested plain values of all sections, as somebody set them.
        whole: The same with everything below them: they decide on the protocol.
    """
    data = changed.get("data")
    if not isinstance(data, Mapping):
        return
    yield from _unread_lines(data, _protocol(whole["data"]), "data")
    items = data.get("sources")
    for index, item in enumerate(items if isinstance(items, list | tuple) else ()):
        if isinstance(item, Mapping):
            yield from _unread_lines(item, _protocol(item), f"data.sources[{index}]")


def without_unread(below: Mapping[str, Any], above: Mapping[str, Any]) -> Mapping[str, Any]:
    """Drop what a lower layer set for a protocol that the layer above replaces.

    Args:
        below: Nested plain values of all sections, merged so far.
        above: The next layer.
    """
    old, new = below.get("data"), above.get("data")
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return below
    gone = _unread_keys(old, _protocol({**old, **new}))
    return {**below, "data": {key: value for key, value in old.items() if key not in gone}}


def _unread_lines(data: Mapping[str, Any], protocol: str | None, group: str) -> Iterator[str]:
    for key in _unread_keys(data, protocol):
        yield (
            f"{group}.{key}: {data[key]!r} has no effect with {group}.protocol={protocol}; leave it"
            f" out, or set {group}.protocol={_READ_BY[key]}"
        )


def _unread_keys(data: Mapping[str, Any], protocol: str | None) -> list[str]:
    known = protocol is not None
    return [key for key, reader in _READ_BY.items() if known and key in data and reader != protocol]


def _protocol(data: Mapping[str, Any]) -> str | None:
    """Return the protocol that is set, or the source's own; ``None`` if it has none."""
    if "protocol" in data:
        return str(data["protocol"])
    name = SOURCES.chosen(data)
    if not SOURCES.has(name):
        return None  # refused where the section is validated
    field = SOURCES.model(name, setting="data.source").model_fields.get("protocol")
    return None if field is None else str(field.default)
