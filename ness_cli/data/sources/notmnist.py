"""notMNIST (small): letters in many fonts, as a tree of PNG files (Bulatov 2011)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ness_cli.console import Progress
from ness_cli.data.dataset import Dataset
from ness_cli.data.formats.archive import expanded
from ness_cli.data.sources import image_folder
from ness_cli.errors import MissingFilesError
from ness_cli.settings.sources.image_folder import Options as FolderOptions
from ness_cli.settings.sources.notmnist import Options

_NAME = "notMNIST_small"
_ENDINGS = ("", ".zip", ".tar", ".tar.gz", ".tgz")


def content_hash(options: Options, progress: Progress) -> str:
    """Return the SHA-256 of the folder or archive.

    Raises:
        MissingFilesError: If it is not there.
    """
    return image_folder.content_hash(_as_folder(options), progress)


@contextlib.contextmanager
def opened(options: Options, progress: Progress | None) -> Iterator[Dataset]:
    """Provide the images; they have no test images of their own.

    Raises:
        InputError: If they are missing or do not make a data set.
    """
    folder = _as_folder(options)
    # Copies without the unreadable files are good too: a pattern may leave nothing out.
    with image_folder.listed(folder, progress) as (storages, listing):
        yield image_folder.FolderDataset(storages, listing, folder, progress or Progress())


def _as_folder(options: Options) -> FolderOptions:
    plain = options.model_dump() | {"source": "image-folder", "path": str(_locate(options))}
    return FolderOptions.model_validate(plain)


def _locate(options: Options) -> Path:
    root = expanded(options.path)
    for ending in _ENDINGS:
        if (root / f"{_NAME}{ending}").exists():
            return root / f"{_NAME}{ending}"
    if root.exists() and (root.name.startswith(_NAME) or (root / "A").is_dir()):
        return root
    raise MissingFilesError(
        f"notMNIST: {_NAME} not in {root}",
        f"put the folder {_NAME} (letters A to J, 18 726 PNG files) or its .tar.gz into {root}, or"
        " set data.path; no checksum was ever published for it",
    )
