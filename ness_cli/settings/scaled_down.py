"""The same experiment on a few images for two epochs, to try its whole path in a minute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ness_cli.settings.resolve import Resolved, build

_IMAGES_PER_CLASS = 20
_EPOCHS = 2
_TASKS = 3
_LARGEST_VALID_FRACTION = 0.2


def scaled_down(resolved: Resolved) -> Resolved:
    """Return settings with 20 images a class, at most 3 permutations or rotations, and 2 epochs.

    Enough images are set aside for validation that every task has some. The preset's published
    result does not apply any more.
    """
    plain = resolved.settings.to_dict()
    data = plain["data"]
    for each in data.get("sources") or [data]:
        _shrink(each)
    if data.get("sources"):
        data["valid_fraction"] = _LARGEST_VALID_FRACTION
    train = plain["train"]
    train["epochs"] = min(_EPOCHS, train["epochs"])
    train["head_epochs"] = min(train["head_epochs"], train["epochs"] - 1)
    return replace(
        resolved, settings=build(plain), about=resolved.about.model_copy(update={"published": None})
    )


def _shrink(data: dict[str, Any]) -> None:
    limit = data["limit_per_class"] or _IMAGES_PER_CLASS
    data["limit_per_class"] = min(limit, _IMAGES_PER_CLASS)
    data["valid_fraction"] = _LARGEST_VALID_FRACTION
    if data["protocol"] != "split":
        data["num_tasks"] = min(_TASKS, data["num_tasks"] or _TASKS)
