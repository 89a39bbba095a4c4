"""Change what a step recorded, as a run in which it went otherwise would have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ness_cli.files import read_json, write_record


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Have a function change the content of a JSON file."""
    content = read_json(path, remedy="")
    change(content)
    write_record(path, content)


def put_values(path: Path, values: Mapping[str, Any]) -> None:
    """Put values into a JSON file."""
    rewrite(path, lambda content: content.update(values))
