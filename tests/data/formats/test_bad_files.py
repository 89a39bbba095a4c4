"""Files that are no use as images: all in one message, left out by pattern, or skipped."""

from __future__ import annotations

import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from factory import Notes
from PIL import Image

from ness_cli.console import Progress
from ness_cli.data.store import prepare
from ness_cli.data.stream_manifest import plan
from ness_cli.data.task_stream import TaskStream
from ness_cli.errors import InputError, NessError, SettingsError
from ness_cli.settings.resolve import build, parse_overrides
from ness_cli.settings.sources.image_folder import Options

CLASSES = ("ant", "bee")


def _make(folder: Path, splits=("train", "test"), per_class=5) -> Path:
    rng = np.random.default_rng(0)
    for split in splits:
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for index in range(per_class):
                pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index}.png")
    return folder


def _spoil(folder: Path) -> Path:
    """Put in five files that are no use, the first image of all among them."""
    (folder / "test/ant/0.png").write_bytes(b"")
    whole = (folder / "train/bee/4.png").read_bytes()
    (folder / "train/bee/4.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train/ant/[a, b].png").write_bytes(b"no image")
    (folder / "train/ant/notes.txt").write_text("of no use")
    (folder / "train/bee/more.txt").write_text("of no use")
    return folder


BAD = ("test/ant/0.png", "train/bee/4.png", "train/ant/[a, b].png", "notes.txt", "more.txt")


def _options(path: Path, **more: object) -> Options:
    return Options(path=str(path), classes_per_task=2, valid_fraction=0.0, **more)


def _open(options: Options, cache: Path) -> TaskStream:
    return TaskStream(prepare(options, cache, Progress()), cache, remedy="")


def _refusal(options: Options, cache: Path) -> InputError:
    with pytest.raises(InputError) as error:
        prepare(options, cache, Progress())
    return error.value


@pytest.mark.parametrize("channels", ["auto", "rgb"])
@pytest.mark.parametrize("packed", [False, True])
def test_all_bad_files_are_named_in_one_message(tmp_path, packed, channels):
    place = _spoil(_make(tmp_path / "a"))
    if packed:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for path in sorted(place.rglob("*.*")):
                archive.write(path, path.relative_to(place))
        place = tmp_path / "a.zip"
    error = _refusal(_options(place, channels=channels), tmp_path / "cache")
    assert "5 files cannot be used" in error.what
    assert all(name in error.what for name in BAD)


def test_images_alone_are_named_together_too(tmp_path):
    folder = _make(tmp_path / "a")
    for name in ("train/ant/1.png", "train/bee/3.png", "test/bee/0.png"):
        (folder / name).write_bytes(b"no image")
    error = _refusal(_options(folder, channels="rgb", size=6), tmp_path / "cache")
    assert "3 files cannot be used" in error.what


def test_the_pattern_of_the_message_leaves_them_out_and_nothing_else(tmp_path):
    folder = _spoil(_make(tmp_path / "a"))
    error = _refusal(_options(folder, exclude=["bee/1.png"]), tmp_path / "cache")
    (typed,) = (part for part in shlex.split(error.remedy) if part.startswith("data.exclude="))
    data = {"source": "image-folder", "path": str(folder), "classes_per_task": 2}
    asked = parse_overrides([typed])["data"]
    stream = _open(build({"data": data | {"valid_fraction": 0.0} | asked}).data, tmp_path / "cache")
    # bee/1.png was out before, in both splits.
    assert stream.split(1, "train").labels.bincount().tolist() == [5, 3]
    assert stream.split(1, "test").labels.bincount().tolist() == [4, 4]


def test_a_pattern_that_matches_nothing_is_refused(tmp_path):
    folder = _make(tmp_path / "a")
    with pytest.raises(SettingsError, match=r"'cat/\*' matches no file"):
        plan(_options(folder, exclude=["bee/0.png", "cat/*"]))
    assert (
        plan(_options(folder, exclude=["bee/0.png"]))["tasks"][0]["splits"]["train"]["count"] == 9
    )
    one = plan(_options(folder, exclude=["train/bee/0.png"]))["tasks"][0]["splits"]
    assert (one["train"]["count"], one["test"]["count"]) == (9, 10)


def test_images_outside_of_the_class_folders_are_refused_whatever_happens_to_bad_ones(tmp_path):
    folder = _make(tmp_path / "a")
    for index, name in enumerate(("train/over.png", "under.png")):
        (folder / f"train/ant/{index}.png").rename(folder / name)
    error = _refusal(_options(folder, on_error="skip"), tmp_path / "cache")
    assert "over.png lies outside" in error.what
    assert "under.png lies outside" in error.what
    left = _options(folder, exclude=["train/over.png", "under.png"])
    assert plan(left)["tasks"][0]["splits"]["train"]["count"] == 8


def test_skipping_is_the_same_as_excluding(tmp_path):
    folder = _spoil(_make(tmp_path / "a", splits=("train", "test")))
    skipped = _options(folder, on_error="skip")
    manifest = prepare(skipped, tmp_path / "cache", Progress())
    assert sorted(manifest["left_out"]) == sorted(
        [*BAD[:3], "train/ant/notes.txt", "train/bee/more.txt"]
    )
    patterns = [re.sub(r"([\[])", "[[]", name) for name in BAD[:3]] + ["*.txt"]
    excluded = _open(_options(folder, exclude=patterns), tmp_path / "cache")
    stream = TaskStream(manifest, tmp_path / "cache", remedy="")
    assert stream.key != excluded.key
    for split in ("train", "test"):
        assert torch.equal(stream.split(1, split).images, excluded.split(1, split).images)
    counts = plan(skipped)["tasks"][0]["class_counts"]
    assert counts == manifest["tasks"][0]["class_counts"]


def test_a_class_of_bad_images_only_is_not_skipped_in_silence(tmp_path):
    folder = _make(tmp_path / "a")
    for path in (folder / "train/bee").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(NessError, match="class 'bee' has images in test and none in train"):
        prepare(_options(folder, on_error="skip"), tmp_path / "cache", Progress())


def test_streams_from_before_there_was_a_choice_keep_their_keys():
    assert "on_error" not in _options(Path("x")).identity()
    assert _options(Path("x"), on_error="skip").identity()["on_error"] == "skip"


# -- validation folders --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_folder_is_the_validation_split(tmp_path, name):
    folder = _make(tmp_path / "a", splits=("train", name, "test"))
    options = _options(folder).model_copy(update={"valid_fraction": 0.4})
    stream = _open(options, tmp_path / "cache")
    for split, place in (("train", "train"), ("valid", name), ("test", "test")):
        own = stream.split(1, split)
        found = {image.numpy().tobytes() for image in own.images[own.labels == 1]}
        files = (folder / place / "bee").iterdir()
        assert found == {np.asarray(Image.open(f)).transpose(2, 0, 1).tobytes() for f in files}
    planned = {k: v["count"] for k, v in plan(options)["tasks"][0]["splits"].items()}
    assert planned == {"train": 10, "valid": 10, "test": 10}


def test_permutations_move_the_pixels_of_validation_folders_too(tmp_path):
    folder = _make(tmp_path / "a", splits=("train", "val", "test"))
    options = Options(path=str(folder), protocol="permuted", num_tasks=2)
    stream = _open(options, tmp_path / "cache")
    first, second = (stream.split(task, "valid").images for task in (1, 2))
    assert len(first) == 10
    assert not torch.equal(first, second)
    assert torch.equal(first.flatten(1).sort().values, second.flatten(1).sort().values)


def test_a_stream_with_a_validation_folder_is_not_one_from_when_it_was_left_alone(tmp_path):
    folder = _make(tmp_path / "a", splits=("train", "val", "test"))
    key = _open(_options(folder), tmp_path / "cache").key
    (folder / "val").rename(folder / "other")
    notes = Notes()
    assert prepare(_options(folder), tmp_path / "cache", notes)["key"] != key
    assert any("other is ignored" in note for note in notes.texts)


def test_train_and_validation_without_test_needs_a_share_for_testing(tmp_path):
    folder = _make(tmp_path / "a", splits=("train", "val"))
    with pytest.raises(InputError, match="no test images") as error:
        plan(_options(folder))
    assert "data.test_fraction" in error.value.remedy
    planned = plan(_options(folder, test_fraction=0.2))["tasks"][0]["splits"]
    assert {k: v["count"] for k, v in planned.items()} == {"train": 8, "valid": 10, "test": 2}
