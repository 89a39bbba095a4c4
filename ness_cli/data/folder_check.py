"""What is in a folder or archive of images: counts, sizes, bad files, and images that repeat.

Two images are the same if their pixels are, decoded to 8-bit colour, however they are stored and
called. A copy that was scaled, cropped or compressed anew is another image.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.console import Progress
from ness_cli.data.formats.archive import Storage, locate, opened_storages
from ness_cli.data.formats.bad_files import BadFile, Examined, examine, refusal
from ness_cli.data.formats.folder import Listing, arrange
from ness_cli.data.sources.image_folder import FolderDataset
from ness_cli.data.task_stream import SPLITS
from ness_cli.data.tasks.plan import plan_tasks
from ness_cli.errors import NessError
from ness_cli.settings.sources.image_folder import Options


@dataclass(frozen=True)
class Member:
    """One of several images with the same pixels: split, class and name."""

    split: str
    class_name: str
    path: str


Repeated = tuple[Member, ...]


@dataclass(frozen=True)
class FolderCheck:
    """What was found.

    Attributes:
        path: The folder or archive.
        counts: Images that can be read, by class and split.
        sizes: Images by ``(height, width)``.
        modes: Images by Pillow's name for how their pixels are stored.
        bad: Files that cannot be used.
        repeated: Groups of images with the same pixels.
        problem: What else keeps the images from being prepared.
    """

    path: str
    counts: dict[str, dict[str, int]]
    sizes: Counter[tuple[int, int]]
    modes: Counter[str]
    bad: tuple[BadFile, ...]
    repeated: tuple[Repeated, ...]
    problem: NessError | None

    @property
    def splits(self) -> list[str]:
        """The splits that there are, in their usual order."""
        return [split for split in SPLITS if any(split in row for row in self.counts.values())]

    def refusals(self) -> list[NessError]:
        """Return what keeps the images from being prepared, as preparing would say it."""
        found = [refusal(self.bad)] if self.bad else []
        return [*found, *([] if self.problem is None else [self.problem])]

    def notes(self) -> list[str]:
        """Return sentences on images that repeat, with numbers."""
        found = []
        for split in self.splits:
            extra = sum(max(0, _number_in(split, group) - 1) for group in self.repeated)
            if extra:
                found.append(f"images that repeat another one in {split}: {extra}")
        across = (group for group in self.repeated if len({each.split for each in group}) > 1)
        if tested := sum(_number_in("test", group) for group in across):
            found.append(
                f"test images that are in train or valid too: {tested}; test accuracy overstates"
                " what was learned"
            )
        torn = [group for group in self.repeated if len({each.class_name for each in group}) > 1]
        if torn:
            first = ", ".join(each.path for each in torn[0])
            found.append(f"images that are in several classes: {len(torn)}, the first {first}")
        return found

    def document(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "schema": "ness.dataset-check/1",
            "path": self.path,
            "counts": self.counts,
            "sizes": [
                {"height": height, "width": width, "count": count}
                for (height, width), count in self.sizes.most_common()
            ],
            "modes": dict(self.modes.most_common()),
            "bad_files": [{"path": file.path, "what": file.what} for file in self.bad],
            "repeated": [[each.path for each in group] for group in self.repeated],
            "notes": self.notes(),
            "problems": [{"what": each.what, "fix": each.remedy} for each in self.refusals()],
        }


def check_folder(path: str, progress: Progress) -> FolderCheck:
    """Decode all images of a folder, zip or tar, and return what is to be known of them.

    Args:
        path: Where they are.
        progress: Told of images read.

    Raises:
        InputError: If it is not there, cannot be opened, or holds no images.
    """
    with opened_storages(locate(path)) as storages:
        listing = arrange(storages)
        files = list(listing.files())
        with progress.track("reading images", len(files)) as advance:
            return _summed_up(path, storages, listing, examine(storages, files, advance))


def _summed_up(
    path: str,
    storages: Sequence[Storage],
    listing: Listing,
    examined: Iterable[Examined | BadFile],
) -> FolderCheck:
    members = {
        (file.storage, file.name): Member(split, name, file.path)
        for split, classes in listing.splits.items()
        for name, files in classes.items()
        for file in files
    }
    sizes: Counter[tuple[int, int]] = Counter()
    modes: Counter[str] = Counter()
    same: defaultdict[bytes, list[Member]] = defaultdict(list)
    bad = [*listing.misplaced, *listing.no_images]
    for each in examined:
        if isinstance(each, BadFile):
            bad.append(each)
            continue
        _, height, width = each.pixels.shape
        sizes[height, width] += 1
        modes[each.mode] += 1
        digest = hashlib.sha256(f"{height} x {width}:".encode() + each.pixels.tobytes()).digest()
        same[digest].append(members[each.file.storage, each.file.name])
    good = listing.without(bad)
    repeated = (sorted(group, key=lambda member: member.path) for group in same.values())
    return FolderCheck(
        path,
        _counts(good),
        sizes,
        modes,
        tuple(bad),
        tuple(sorted((tuple(group) for group in repeated if len(group) > 1), key=_first_path)),
        _problem(path, storages, good),
    )


def _counts(listing: Listing) -> dict[str, dict[str, int]]:
    names = sorted({name for classes in listing.splits.values() for name in classes})
    return {
        name: {split: len(classes.get(name, ())) for split, classes in listing.splits.items()}
        for name in names
    }


def _problem(path: str, storages: Sequence[Storage], listing: Listing) -> NessError | None:
    """Return what preparing would refuse, bad files apart, whatever size and tasks it is given."""
    test_fraction = None if "test" in listing.splits else 0.2
    options = Options(
        path=path, size=32, channels="rgb", classes_per_task=1, test_fraction=test_fraction
    )
    usable = Listing(listing.splits, (), (), (), ())
    try:
        plan_tasks(FolderDataset(storages, usable, options, Progress()), options)
    except NessError as error:
        return error
    return None


def _first_path(group: Repeated) -> str:
    return group[0].path


def _number_in(split: str, group: Repeated) -> int:
    return sum(member.split == split for member in group)
