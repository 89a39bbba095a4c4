"""What ``datasets check`` shows."""

from __future__ import annotations

import shlex

from ness_cli.cli.session import Session
from ness_cli.data.folder_check import FolderCheck, check_folder
from ness_cli.data.tasks.classes import setting_that_fits
from ness_cli.results.image_check_tables import classes_table, repeated_table, sizes_table
from ness_cli.settings.presets import OWN_IMAGES
from ness_cli.settings.resolve import resolve
from ness_cli.settings.sources.base import DatasetSettings
from ness_cli.workplace import StoppableProgress


def check_images(path: str, workplace: Session) -> None:
    """Check a folder or archive of images and show what is in it.

    Raises:
        NessError: If anything would keep the images from being prepared.
    """
    console, command = workplace.console, f"ness datasets check {shlex.quote(path)}"
    found = check_folder(
        path, StoppableProgress(console, workplace.stop, "nothing was written", command)
    )
    console.result(classes_table(found.path, found.counts, found.splits))
    console.result(sizes_table(found.sizes, found.modes))
    if found.repeated:
        console.result(repeated_table([[each.path for each in group] for group in found.repeated]))
    for note in found.notes():
        console.note(note)
    refusals = found.refusals()
    following = _following(path, found)
    console.document(found.document() | {"next": "" if refusals else following})
    for each in refusals[:-1]:
        console.error(each)
    if refusals:
        raise refusals[-1]
    console.next(following)


def _following(path: str, found: FolderCheck) -> str:
    """Return the command that learns the images, with the settings that they need."""
    typed = [f"data.path={path}"]
    if "test" not in found.splits:
        typed.append("data.test_fraction=0.2")
    # The path itself may hold characters that settings read as YAML.
    images = resolve(OWN_IMAGES, ["data.path=images"]).settings.data
    assert isinstance(images, DatasetSettings)
    assert isinstance(images.classes_per_task, int)
    typed += filter(None, [setting_that_fits(len(found.counts), images.classes_per_task)])
    return f"ness run {shlex.join(typed)}"
