"""Whether the files at hand are those that a run was prepared from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.console import Progress
from ness_cli.data.store import keys
from ness_cli.data.stream_plan import content_hashes, content_of_all
from ness_cli.errors import InputError, MissingFilesError
from ness_cli.run_dir import RunDir
from ness_cli.settings import yaml_files
from ness_cli.settings.model import Settings
from ness_cli.settings.resolve import Resolved
from ness_cli.settings.sources.base import DatasetSettings, DataSettings
from ness_cli.stages.context import read_settings


@dataclass(frozen=True)
class Origin:
    """What a run says of the files that its images were prepared from.

    Attributes:
        run: The run folder.
        record: The content of its ``run.json``: ``contents`` has the hash of every data set's files
            and ``content`` that of all, ``locations`` says where they were when they were last
            compared with these. Runs of older versions lack some of it.
    """

    run: RunDir
    record: Mapping[str, Any]

    @property
    def data(self) -> DataSettings:
        """The settings of the data that the run has."""
        return read_settings(self.run, self.record).data

    @property
    def locations(self) -> Sequence[Any]:
        """Where every data set was when its files were last looked at."""
        locations: Sequence[Any] = self.record.get("places") or self.data.locations()
        return locations

    def moved(self, data: DataSettings) -> list[int]:
        """Return the numbers, from 0, of the data sets that other settings look for elsewhere."""
        pairs = zip(self.locations, data.locations(), strict=True)
        return [index for index, (mine, other) in enumerate(pairs) if mine != other]

    def refuse_others(self, data: DataSettings, found: Mapping[int, str]) -> None:
        """Refuse files that are not those of the run.

        Args:
            data: Settings that say where the files are.
            found: Their hashes by number of the data set; of all data sets if the run knows no
                hash of each.

        Raises:
            InputError: If a data set is another one; names it with its place and both hashes.
        """
        known = self.record.get("contents")
        if known is None:
            wrong = {} if self._has_all(data, list(found.values())) else dict.fromkeys(found, "")
        else:
            wrong = {
                index: f" (SHA-256 {mine[:12]}... instead of {known[index][:12]}...)"
                for index, mine in found.items()
                if mine != known[index]
            }
        if wrong:
            what = "; ".join(f"{self._location(data, each)}{more}" for each, more in wrong.items())
            raise InputError(
                f"{self.run.path} was prepared from other files than those at hand now: {what}",
                "put the old files back, name the place where they are, or choose another --out",
            )

    def _has_all(self, data: DataSettings, found: Sequence[str]) -> bool:
        if "content" in self.record:
            return bool(self.record["content"] == content_of_all(found))
        return self.record["stream_key"] in keys(data, found)

    def _location(self, data: DataSettings, index: int) -> str:
        """Return the key and the value of a setting that says where a data set is."""
        prefix = "data" if isinstance(data, DatasetSettings) else f"data.sources[{index}]"
        before, now = self.locations[index], data.locations()[index]
        if now is None:
            return f"{prefix}.source: {data.datasets()[index].title}"
        than = "" if before == now else f" instead of {yaml_files.typed(before)}"
        return f"{prefix}.path: {yaml_files.typed(now)}{than}"


def checked(
    resolved: Resolved, origin: Origin, progress: Progress, *, everything: bool
) -> tuple[Settings, bool]:
    """Return the settings of a run whose images are prepared, and whether files were compared.

    Only files whose place is another one than before are looked at: once the images are prepared,
    their source may be gone.

    Args:
        resolved: The settings asked for.
        origin: Where the images of the run came from.
        progress: Told what is going on.
        everything: Look at the files of every data set.

    Returns:
        The settings. Where a preset names a place at which nothing is, the data keeps its own.

    Raises:
        InputError: If files are not those of the run; or if they are missing, and their place was
            typed or everything is to be looked at.
    """
    settings, data = resolved.settings, resolved.settings.stream
    datasets, moved = data.datasets(), origin.moved(data)
    if not moved and not everything:
        return settings, False
    knows_each = "contents" in origin.record
    numbers = moved if knows_each and not everything else range(len(datasets))
    try:
        hashes = content_hashes([datasets[each] for each in numbers], progress, download=False)
    except MissingFilesError as error:
        if everything or _is_typed(resolved):
            raise MissingFilesError(
                f"{error.what}, to be compared with what {origin.run.path} was prepared from",
                "correct the place, or leave it out to go on with the images that are prepared",
            ) from error
        progress.note(f"{error.what}; {origin.run.path} goes on with the images that are prepared")
        return settings.model_copy(update={"data": origin.data}), False
    origin.refuse_others(data, dict(zip(numbers, hashes, strict=True)))
    return settings, True


def _is_typed(resolved: Resolved) -> bool:
    keys = ("data.path", "data.sources")
    return any(resolved.origins.get(key) == "command line" for key in keys)
