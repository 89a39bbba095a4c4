"""Tables of what ``ness datasets check`` found in a folder or archive of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ness_cli.results.table import Table, plain_table, titled

_MOST = 20  # rows of a table


def classes_table(
    path: str, counts: Mapping[str, Mapping[str, int]], splits: Sequence[str]
) -> Table:
    """Return the table of images by class and split.

    Args:
        path: The folder or archive.
        counts: Images by class, then by split.
        splits: Names of the splits in their order.
    """
    table = plain_table("class", *splits)
    for name, row in counts.items():
        table.add_row(name, *(str(row.get(split, 0)) for split in splits))
    totals = {split: sum(row.get(split, 0) for row in counts.values()) for split in splits}
    table.add_row("all", *(str(total) for total in totals.values()))
    return titled(f"{path}: {len(counts)} classes", table)


def sizes_table(sizes: Counter[tuple[int, int]], modes: Counter[str]) -> Table:
    """Return the table of images by ``(height, width)``, and below how pixels are stored."""
    table = plain_table("height x width", "images")
    for (height, width), count in sizes.most_common(_MOST):
        table.add_row(f"{height} x {width}", str(count))
    if len(sizes) > _MOST:
        table.add_row(f"{len(sizes) - _MOST} other sizes", "")
    stored = ", ".join(f"{mode} {count}" for mode, count in modes.most_common())
    return titled("Sizes", table, f"stored as: {stored}" if stored else "")


def repeated_table(groups: Sequence[Sequence[str]]) -> Table:
    """Return the table of images with the same pixels: paths, a row per group."""
    table = plain_table("the same pixels", left=1)
    for group in groups[:_MOST]:
        table.add_row(", ".join(group))
    if len(groups) > _MOST:
        table.add_row(f"and {len(groups) - _MOST} more (--json has all)")
    return titled("Repeated images", table)
