"""The epochs of a task, as training wrote them down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ness_cli.errors import DamagedError

_NUMBERS = {"epoch", "lr", "seconds", "train_loss"}


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return an entry per epoch, none if there is no file yet.

    Args:
        path: ``history.jsonl`` of a task. A last line without its end is being written now, and is
            left for the next time.

    Raises:
        DamagedError: If a line is not what training writes.
        OSError: If the system does not let it be read.
    """
    if not path.exists():
        return []
    try:
        if not path.is_file():  # reading a pipe would never end
            raise ValueError("it is no file")
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("expected a JSON object in every line")
        numbers = [entry[key] for entry in entries for key in _NUMBERS & entry.keys()]
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError(f"expected {', '.join(sorted(_NUMBERS))} to be numbers")
    except (ValueError, RecursionError) as error:
        raise DamagedError(
            f"{path} is damaged: {error}", "no result needs it: remove it"
        ) from error
    return entries
