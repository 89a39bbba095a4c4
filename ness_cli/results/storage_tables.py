"""Tables of prepared images, of files removed, and of what was verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ness_cli.results.number_formats import human_bytes
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.words import counted


def cache_table(streams: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return a line per prepared stream, and how much they are together."""
    table = plain_table("images of", "folder", "tasks", "images", "size", left=2)
    for each in streams:
        name = str(each["folder"]).rpartition("/")[2]
        source = each["source"] or ("(not readable)" if each["refused"] else "(incomplete)")
        counts = (str(each["tasks"]), str(each["images"]))
        table.add_row(source, name, *counts, human_bytes(each["bytes"]))
    total = sum(each["bytes"] for each in streams)
    return titled(title, table, f"{counted(len(streams), 'stream')}, {human_bytes(total)}")


def removal_table(files: Mapping[str, int], title: str) -> Table:
    """Return a line per file and its bytes, and how much they are together."""
    table = plain_table("file", "size")
    for name, size in sorted(files.items()):
        table.add_row(name, human_bytes(size))
    total = human_bytes(sum(files.values()))
    return titled(title, table, f"{counted(len(files), 'file')}, {total}")


def verified_table(found: Mapping[str, Any], title: str) -> Table:
    """Return a line per kind of check, and how often it was made."""
    table = plain_table("checked", "number")
    size = human_bytes(found["bytes"])
    for name, number in (
        (f"files are what was written ({size})", found["files"]),
        ("tensors orthonormal or symmetric, as they should be", found["matrices"]),
        ("spectra those of their covariance", found["spectra"]),
        ("weights of a task follow from those before, to the bit", found["updates"]),
        ("rows of accuracies measured again", found["rows"]),
    ):
        table.add_row(name, str(number))
    return titled(title, table, *found["left_out"])
