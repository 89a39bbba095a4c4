"""JSON documents of another structure: valid, and not what was written."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

DEEP: list[Any] = []
for _ in range(300):
    DEEP = [DEEP]
OTHER_VALUES = (
    *(None, True, 0, -1, 10**400, float("nan"), float("inf"), 1e300),
    *("", "x", "../../x", [], [[]], [None], {}, {"x": None}, DEEP),
)
"""What may stand where something else should."""
GONE = object()


def places(document: Any, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    """Yield the keys that lead to every value of a document; of long lists to the first two."""
    yield before
    if isinstance(document, dict):
        for key in document:
            yield from places(document[key], *before, key)
    elif isinstance(document, list):
        for index in range(min(2, len(document))):
            yield from places(document[index], *before, index)


def changed(document: Any, where: tuple[str | int, ...], value: Any) -> Any:
    """Return a document with another value at a place, or without that place if it is ``GONE``."""
    if not where:
        return value
    found = copy.deepcopy(document)
    inner = found
    for key in where[:-1]:
        inner = inner[key]
    if value is GONE:
        del inner[where[-1]]
    else:
        inner[where[-1]] = value
    return found


def structures(document: Any, rng: random.Random, count: int = 0) -> Iterator[tuple[str, str]]:
    """Yield what was changed in a document, and the text of it: at every place every other value.

    Args:
        document: What stands in the file; its seal is taken off, as earlier versions wrote none.
        rng: Draws which of them.
        count: How many; all if 0.
    """
    whole = {key: value for key, value in document.items() if key != "seal"}
    cases = [(where, value) for where in places(whole) for value in OTHER_VALUES]
    cases += [(where, GONE) for where in places(whole) if where]
    for where, value in rng.sample(cases, count) if count else cases:
        name = "gone" if value is GONE else f"{value!r:.20}"
        yield f"{'.'.join(map(str, where))}: {name}", json.dumps(changed(whole, where, value))
