"""Turn the settings of a data source into a task stream in the cache.

An entry of the cache is named by a hash of the settings that shape it and of the raw content, never
by where the data lies. ``stream.json`` is written last: an entry without it is incomplete.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ness_cli import record_shapes
from ness_cli.data.store_images import write_images, write_refusals
from ness_cli.data.stream_manifest import Manifest
from ness_cli.data.stream_plan import content_hashes, content_of_all, opened_stream
from ness_cli.data.task_stream import FOLDER_LENGTH
from ness_cli.errors import DamagedError
from ness_cli.extensions import STREAM
from ness_cli.file_kinds import require_file
from ness_cli.files import guarded, read_json, write_record
from ness_cli.hashing import sha256_of_file, sha256_of_text
from ness_cli.lease import Lease
from ness_cli.settings.sources.base import DataSettings

if TYPE_CHECKING:
    from ness_cli.console import Progress

# Of what an entry is made from, newest first; a new one when the same settings and content would
# give other tensors. Runs prepared in an older format keep its key: 2 could take a class with very
# few images out of training, and is the same otherwise.
_FORMATS = (3, 2)
_REMEDY = "prepare the images again"


def prepare(
    options: DataSettings,
    cache: Path,
    progress: Progress,
    *,
    contents: Sequence[str] | None = None,
    key: str | None = None,
) -> Manifest:
    """Make sure that the task stream is in the cache, and describe it.

    A complete entry is used as it is, after checking the hash of every file; an incomplete or
    damaged one is made anew. Processes that prepare the same stream wait for each other.

    Args:
        options: The options of a data source.
        cache: Folder of prepared data, shared by runs; made if missing.
        progress: Told what is going on.
        contents: The hashes of the source's files, where they are known already.
        key: Key that a stream of the same files and settings has already, maybe of an older
            format.

    Returns:
        The manifest: key, hashes of the source's files, shape of images, and per task its name,
        classes and their counts (before validation images are set aside), constants of
        normalisation and files with count, size in bytes and SHA-256. It has no absolute path.

    Raises:
        InputError: If images are missing or cannot be read, or a task would have none.
        SettingsError: If the settings do not fit the data.
        SystemRefusedError: If the cache cannot be written.
    """
    if contents is None:
        contents = content_hashes(options.datasets(), progress)
    key = key or keys(options, contents)[0]
    folder = cache / key[:FOLDER_LENGTH]
    with _locked(folder, progress):
        try:
            stored = prepared(cache, key)
        except DamagedError as error:
            progress.note(f"{error.what}; the images are prepared again")
            stored = None
        if stored is not None:
            return stored
        with opened_stream(options, progress) as (planned, images):
            tasks = write_images(planned, images, folder, key)
        manifest = {
            "schema": STREAM,
            "key": key,
            "content": content_of_all(contents),
            "contents": list(contents),
            "source": options.source,
            "image_shape": list(planned.image_shape),
            "shared_labels": planned.shared_labels,
            "tasks": tasks,
            "left_out": list(planned.left_out),
        }
        with write_refusals(folder):
            write_record(folder / "stream.json", manifest)
        return manifest


def prepared(cache: Path, key: str, *, remedy: str = _REMEDY) -> Manifest | None:
    """Return the manifest of a stream that is in the cache, its files verified, else ``None``.

    It needs neither the settings nor the images that the stream was prepared from.

    Args:
        cache: Folder of prepared data.
        key: Key of the stream.
        remedy: What to do about damaged ones, for error messages.

    Raises:
        DamagedError: If files are missing or not as they were written; names the first.
        InputError: If something else is in the place of one.
        OSError: If the system does not let one be read.
    """
    folder = cache / key[:FOLDER_LENGTH]
    path = folder / "stream.json"
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise DamagedError(f"the prepared images in {folder} are incomplete", remedy)
        return None
    manifest = read_json(path, remedy=remedy, schema=STREAM, shape=record_shapes.STREAM)
    if (manifest.get("schema"), manifest["key"]) != (STREAM, key):
        raise DamagedError(f"{path} belongs to another stream or version", remedy)
    records = [each for task in manifest["tasks"] for each in task["splits"].values()]
    for file, size, sha256 in ((folder / r["file"], r["bytes"], r["sha256"]) for r in records):
        require_file(file, remedy)
        if not file.is_file():
            raise DamagedError(f"{file} is missing", remedy)
        if file.stat().st_size != size or sha256_of_file(file) != sha256:
            raise DamagedError(f"{file} is damaged", remedy)
    return manifest


def keys(options: DataSettings, contents: Sequence[str]) -> list[str]:
    """Return the keys that a stream may have in the cache, that of new ones first.

    Args:
        options: The options of a data source.
        contents: The hash of every data set's files.
    """
    content, settings = content_of_all(contents), options.identity()
    texts = [
        json.dumps({"format": each, "settings": settings, "content": content}, sort_keys=True)
        for each in _FORMATS
    ]
    return [sha256_of_text(text) for text in texts]


@contextlib.contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold an entry of the cache; wait for who does."""

    def wait(_text: str) -> None:
        progress.note("another process prepares the same images; waiting for it")

    lease = Lease(folder.with_name(f"{folder.name}.lock"), note=wait)
    with contextlib.ExitStack() as stack:
        with write_refusals(lease.path):
            stack.enter_context(lease.held(is_patient=True))
        stack.enter_context(guarded(folder, lease.check))
        yield
