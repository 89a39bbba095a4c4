"""What ``datasets check`` shows."""

from __future__ import annotations

import shlex

from rich.console import Group

from ness_cli.console import Console
from ness_cli.data.folder_check import FolderCheck, check_folder
from ness_cli.results.plain_table import plain_table, titled
from ness_cli.stages.context import StoppableProgress
from ness_cli.stop import StopRequest

_MOST = 20  # rows of a table


def check_images(path: str, console: Console, stop: StopRequest) -> None:
    """Check a folder or archive of images and show what is in it.

    Raises:
        NessError: If anything would keep the images from being prepared.
    """
    command = f"ness datasets check {shlex.quote(path)}"
    found = check_folder(path, StoppableProgress(console, stop, "nothing was written", command))
    console.result(_classes_table(found))
    console.result(_sizes_table(found))
    if found.repeated:
        console.result(_repeated_table(found))
    for note in found.notes():
        console.note(note)
    refusals = found.refusals()
    share = "" if "test" in found.splits else " data.test_fraction=0.2"
    following = f"ness run {shlex.quote(f'data.path={path}')}{share}"
    console.document(found.document() | {"next": "" if refusals else following})
    for each in refusals[:-1]:
        console.error(each)
    if refusals:
        raise refusals[-1]
    console.next(following)


def _classes_table(found: FolderCheck) -> Group:
    table = plain_table("class", *found.splits)
    for name, row in found.counts.items():
        table.add_row(name, *(str(row.get(split, 0)) for split in found.splits))
    totals = {
        split: sum(row.get(split, 0) for row in found.counts.values()) for split in found.splits
    }
    table.add_row("all", *(str(total) for total in totals.values()))
    return titled(f"{found.path}: {len(found.counts)} classes", table)


def _sizes_table(found: FolderCheck) -> Group:
    table = plain_table("height x width", "images")
    for (height, width), count in found.sizes.most_common(_MOST):
        table.add_row(f"{height} x {width}", str(count))
    if len(found.sizes) > _MOST:
        table.add_row(f"{len(found.sizes) - _MOST} other sizes", "")
    modes = ", ".join(f"{mode} {count}" for mode, count in found.modes.most_common())
    return titled("Sizes", table, f"stored as: {modes}" if modes else "")


def _repeated_table(found: FolderCheck) -> Group:
    table = plain_table("the same pixels", left=1)
    for group in found.repeated[:_MOST]:
        table.add_row(", ".join(member.path for member in group))
    if len(found.repeated) > _MOST:
        table.add_row(f"and {len(found.repeated) - _MOST} more (--json has all)")
    return titled("Repeated images", table)
