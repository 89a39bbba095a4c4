"""What JSON documents look like, for those that have no hash of their own to tell.

A shape is a function: given a value and where it stands, it returns what is wrong, or nothing.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

Shape = Callable[[Any, str], str]
"""Given a value and its place, as in ``layers.0.rank``, returns what is wrong; empty if nothing."""

_MOST_TASKS = 100_000
_LARGEST = 2**62  # bytes, seconds, counts; whatever is computed of them has room


def _wrong(value: Any, place: str) -> str:
    return f"{place or 'it'} is {reprlib.repr(value):.40}"


def _where(accepts: Callable[[Any], bool]) -> Shape:
    return lambda value, place: "" if accepts(value) else _wrong(value, place)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(low: int = 0, high: int = _LARGEST) -> Shape:
    """Accept whole numbers in a range."""
    return _where(lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high)


def _is_time(value: Any) -> bool:
    try:
        return bool(datetime.fromisoformat(value))
    except (TypeError, ValueError):
        return False


ANYTHING: Shape = _where(lambda _value: True)
TEXT: Shape = _where(lambda value: isinstance(value, str))
FLAG: Shape = _where(lambda value: isinstance(value, bool))
NUMBER: Shape = _where(lambda v: _is_number(v) and abs(v) <= _LARGEST)  # nor infinite
TIME: Shape = _where(_is_time)


def maybe(shape: Shape) -> Shape:
    """Accept ``null`` too."""
    return lambda value, place: "" if value is None else shape(value, place)


def every(shape: Shape) -> Shape:
    """Accept lists of values of a shape."""

    def check(value: Any, place: str) -> str:
        if not isinstance(value, list):
            return _wrong(value, place)
        found = (shape(each, _inside(place, index)) for index, each in enumerate(value))
        return next(filter(None, found), "")

    return check


def by_name(shape: Shape) -> Shape:
    """Accept groups whose values all have a shape, whatever their keys."""

    def check(value: Any, place: str) -> str:
        if not isinstance(value, dict):
            return _wrong(value, place)
        found = (shape(each, _inside(place, key)) for key, each in value.items())
        return next(filter(None, found), "")

    return check


def group(needed: dict[str, Shape] | None = None, /, **others: Shape) -> Shape:
    """Accept groups in which the values of some keys have a shape; other keys are free.

    Args:
        needed: Keys that must be there.
        others: Keys that may be.
    """
    shapes = {**(needed or {}), **others}

    def check(value: Any, place: str) -> str:
        if not isinstance(value, dict):
            return _wrong(value, place)
        if missing := sorted((needed or {}).keys() - value.keys()):
            return f"{place or 'it'} lacks {', '.join(missing)}"
        known = (key for key in shapes if key in value)
        found = (shapes[key](value[key], _inside(place, key)) for key in known)
        return next(filter(None, found), "")

    return check


def _inside(place: str, key: str | int) -> str:
    return f"{place}.{key}".removeprefix(".")


# -- the documents of a run ----------------------------------------------------------------------

_SPLIT = group({"file": TEXT, "sha256": TEXT, "count": whole(), "bytes": whole()})
_TASK = group(
    {
        "number": whole(1, _MOST_TASKS),
        "name": TEXT,
        "classes": every(TEXT),
        "mean": every(NUMBER),
        "std": every(NUMBER),
        "splits": group({"train": _SPLIT, "valid": _SPLIT, "test": _SPLIT}),
    },
    class_counts=group({"train": every(whole()), "test": every(whole())}),
    number_in_stream=whole(1, _MOST_TASKS),
    stream=TEXT,
)


def _image_shape(value: Any, place: str) -> str:
    problem = every(whole(1, 2**20))(value, place)
    return problem or ("" if len(value) == 3 else _wrong(value, place))


_STREAM = {
    "key": TEXT,
    "image_shape": _image_shape,
    "shared_labels": FLAG,
    "tasks": every(_TASK),
}
_OF_STREAM = {"source": TEXT, "content": TEXT, "left_out": every(TEXT)}
STREAM: Shape = group(_STREAM, **_OF_STREAM, contents=every(TEXT))
"""The description of a task stream."""

_EXTENSION = group(
    {
        "first_task": whole(1, _MOST_TASKS),
        "num_tasks": whole(1, _MOST_TASKS),
        "fingerprint": TEXT,
        "stream": group({**_STREAM, "contents": every(TEXT)}, **_OF_STREAM),
        "settings": by_name(by_name(ANYTHING)),
        "typed": every(TEXT),
        "continues": FLAG,
    }
)
RUN: Shape = group(
    {
        **dict.fromkeys(("fingerprint", "method", "preset", "stream_key"), TEXT),
        "identity": by_name(ANYTHING),
        "num_tasks": whole(0, _MOST_TASKS),
        "seed": whole(),
    },
    content=TEXT,
    origins=by_name(TEXT),
    forked=group(
        {"after": whole(1, _MOST_TASKS), "changed": every(TEXT), "from": TEXT},
        fingerprints=by_name(TEXT),
        training_fingerprint=TEXT,
    ),
    extensions=every(_EXTENSION),
    notes=every(TEXT),
    places=every(maybe(TEXT)),
    contents=every(TEXT),
    versions=by_name(maybe(TEXT)),
    created=TEXT,
)
"""``run.json``."""

_LAYER = group({"layer": TEXT, "rank": whole(), "d": whole(1)})
_CHANGE = group({"rho": maybe(NUMBER)}, budget=NUMBER, pooled=FLAG)
STEP: Shape = group(
    **dict.fromkeys(("inputs", "outputs"), by_name(TEXT)),
    **dict.fromkeys(("bytes", "kept"), by_name(whole())),
    **dict.fromkeys(("notes", "removed"), every(TEXT)),
    **dict.fromkeys(("seconds", "train_seconds"), NUMBER),
    **dict.fromkeys(("steps", "memory_bytes", "peak_memory_bytes"), maybe(whole())),
    **dict.fromkeys(("threads", "processes", "epochs"), maybe(whole())),
    **dict.fromkeys(("fingerprint", "device"), TEXT),
    **dict.fromkeys(("task_incremental", "class_incremental"), maybe(every(maybe(NUMBER)))),
    validation=maybe(every(maybe(NUMBER))),
    class_incremental_note=maybe(TEXT),
    layers=every(_LAYER),
    output_change=maybe(by_name(_CHANGE)),
    next_task=maybe(NUMBER),
    task=whole(1, _MOST_TASKS),
    finished=TIME,
)
"""The record of a step."""

STUDY: Shape = group(
    {"engine": TEXT, "device": TEXT}, rows=every(TEXT), file=TEXT, sha256=TEXT, replaces=TEXT
)
"""``study.json``."""


def _arrays(value: Any, place: str) -> str:
    problem = by_name(every(TEXT))(value, place)
    others = [] if problem else [key for key in value if not key.isdecimal()]
    return problem or (f"{place} has {others[0]!r:.40}" if others else "")


SLURM: Shape = group({"arrays": _arrays}, next=every(TEXT))
"""``.slurm.json``."""

TESTED: Shape = group({"tested": every(group({"settings": every(TEXT)}))})
"""``test.json`` of a search."""
