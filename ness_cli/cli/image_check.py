"""What ``datasets check`` shows."""

from __future__ import annotations

import shlex

from ness_cli.cli.session import Session
from ness_cli.data.folder_check import check_folder
from ness_cli.results.image_check_tables import classes_table, repeated_table, sizes_table
from ness_cli.workplace import StoppableProgress


def check_images(path: str, place: Session) -> None:
    """Check a folder or archive of images and show what is in it.

    Raises:
        NessError: If anything would keep the images from being prepared.
    """
    console, command = place.console, f"ness datasets check {shlex.quote(path)}"
    found = check_folder(
        path, StoppableProgress(console, place.stop, "nothing was written", command)
    )
    console.result(classes_table(found.path, found.counts, found.splits))
    console.result(sizes_table(found.sizes, found.modes))
    if found.repeated:
        console.result(repeated_table([[each.path for each in group] for group in found.repeated]))
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
