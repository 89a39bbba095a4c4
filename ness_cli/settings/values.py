"""Nested plain values, as YAML and JSON have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``("train.lr", value)`` for every leaf of a nested mapping, in order."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def leaves(key: str, value: object) -> Iterator[str]:
    """Yield the key of every value and of every empty group at and below a key."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from leaves(f"{key}.{name}", inner)
    else:
        yield key


def nest(key: str, value: Any) -> dict[str, Any]:
    """Return the nested mapping that holds one value under a key: ``train.lr``."""
    head, _, rest = key.partition(".")
    return {head: nest(rest, value) if rest else value}


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return one nested mapping on top of another."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def group(nested: object, name: str) -> Mapping[str, Any]:
    """Return a group inside of nested values; empty if there is none."""
    found = nested.get(name) if isinstance(nested, Mapping) else None
    return found if isinstance(found, Mapping) else {}
