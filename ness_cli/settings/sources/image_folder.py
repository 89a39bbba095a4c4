"""Your own images: train/CLASS/* and test/CLASS/* in a directory, a zip or a tar."""

from __future__ import annotations

from typing import Any, Literal

from ness_cli.settings.sources.base import DatasetSettings, Names


class Options(DatasetSettings):
    """Options of the data source ``image-folder``."""

    source: Literal["image-folder"] = "image-folder"
    """Images in folders named after their classes."""
    path: str | Names = "data"
    """A directory, zip or tar, or a list of them merged by class name. Without ``train`` and
    ``test`` folders, set ``test_fraction``. A folder ``val``, ``valid`` or ``validation`` beside
    them holds the validation images; ``valid_fraction`` is not used then."""
    exclude: Names | None = None
    """Files to leave out: ``CLASS/NAME`` or ``train/CLASS/NAME``, ``*`` allowed; each pattern must
    match something. None when absent."""
    on_error: Literal["stop", "skip"] = "stop"
    """Files that cannot be read as images: ``stop`` names all of them, ``skip`` goes on as if they
    had been excluded, and names them. It decodes every image once more."""

    def identity(self) -> dict[str, Any]:
        """Return what decides the stream's content besides the files, as plain values."""
        plain = super().identity()
        if self.on_error == "stop":
            del plain["on_error"]  # streams from before there was a choice keep their keys
        return plain
