"""Labels as they come in files: checked, never rounded, and joined with their images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ness_cli.errors import InputError
from ness_cli.words import counted

_MOST = 10_000_000  # labels, more than any data set of pickles has
_REMEDY = "give one whole number for each"
Arrays = tuple[torch.Tensor, torch.Tensor]
"""uint8 images ``[n, c, h, w]`` and int64 labels ``[n]``."""


def whole_numbers(values: Any, what: str, *, matrix: bool = False) -> torch.Tensor:
    """Return numbers as int64 ``[n]``.

    Args:
        values: An array or a sequence; floating point numbers must be whole.
        what: What messages call them.
        matrix: Whether they may be a matrix of one row or one column.

    Raises:
        InputError: If they are no whole numbers, or not in one dimension.
    """
    if isinstance(values, list | tuple):
        _refuse_excess(values, what)
    try:
        array = np.asarray(values)
    # Lists of unequal length, numbers beyond all types.
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{what} are no list of whole numbers", _REMEDY) from error
    if matrix and array.ndim == 2 and 1 in array.shape:
        array = array.reshape(-1)
    if array.ndim != 1:
        raise InputError(f"{what} have shape {list(array.shape)}, not [n]", _REMEDY)
    if array.size == 0:
        return torch.empty(0, dtype=torch.int64)
    if array.dtype.kind not in "iuf":
        raise InputError(
            f"{what} are no whole numbers: they hold {array.tolist()[0]!r:.40}", _REMEDY
        )
    # Whatever is not the same as an int64 is a fraction, no number, or too large.
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
    wrong = (whole != array) | (np.abs(array.astype(np.float64)) >= 2.0**62)
    if wrong.any():
        position = int(wrong.argmax())
        raise InputError(
            f"{what} are no whole numbers: number {position} is {array[position]}", _REMEDY
        )
    return torch.from_numpy(whole)


def _refuse_excess(values: Sequence[Any], what: str) -> None:
    """Refuse a sequence of anything but numbers, or lists and arrays of them.

    A list in a list, or a text, may be there many times: a small file could ask for any memory.

    Raises:
        InputError: If there is something else in it, or too much.
    """
    count = 0
    for each in values:
        inner = len(each) if isinstance(each, list | tuple) else getattr(each, "size", 1)
        count += inner
        if count > _MOST:  # said before time is spent on them
            raise InputError(f"{what} are more than {_MOST}", _REMEDY)
        if isinstance(each, list | tuple):
            is_good = all(isinstance(one, int | float) for one in each)
        else:
            is_array = isinstance(each, np.ndarray) and each.dtype.kind in "biuf"
            is_good = is_array or isinstance(each, int | float)
        if not is_good:
            shown = repr(each)[:40] if isinstance(each, str | bytes | None) else type(each).__name__
            raise InputError(f"{what} are no whole numbers: they hold {shown}", _REMEDY)


def joined(parts: Iterable[tuple[str, Arrays]]) -> Arrays:
    """Return the images and labels of several parts as one.

    Args:
        parts: What messages call a part, its images ``[n, c, h, w]``, and its labels ``[n]``.

    Raises:
        InputError: If images and labels of a part differ in number, or parts in their shape.
    """
    images: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    first = ""
    for what, (each, numbers) in parts:
        first = first or what
        refuse_unequal_numbers(what, each, numbers)
        if images and each.shape[1:] != images[0].shape[1:]:
            raise InputError(
                f"images differ in shape: {first} are {shape_of(images[0])}, {what} are"
                f" {shape_of(each)} (channels x height x width)",
                "bring them to one shape first",
            )
        images.append(each)
        labels.append(numbers)
    return torch.cat(images), torch.cat(labels)


def refuse_unequal_numbers(what: str, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Refuse images and labels that differ in number.

    Raises:
        InputError: If they do.
    """
    if len(images) != len(labels):
        raise InputError(
            f"{what}: {counted(len(images), 'image')} and {counted(len(labels), 'label')}",
            "get the file again",
        )


def shape_of(images: torch.Tensor) -> str:
    """Return channels, height and width of images as messages give them."""
    return " x ".join(map(str, images.shape[1:]))


def numbered(labels: torch.Tensor, what: str) -> list[str]:
    """Return the labels as names of classes.

    Args:
        labels: int64 ``[n]`` of all splits.
        what: What messages call them.

    Raises:
        InputError: If there are none, or they do not run from 0 without a gap.
    """
    found = torch.unique(labels).tolist()
    if not found:
        raise InputError(f"{what}: there are no images", "add images and their labels")
    for expected, label in enumerate(found):
        if label != expected:
            raise InputError(
                f"{what}: there is no label {expected}, the next one is {label}",
                "number the classes 0, 1, 2, ...",
            )
    width = len(str(max(len(found) - 1, 0)))
    return [f"{label:0{width}d}" for label in found]
