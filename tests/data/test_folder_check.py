from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ness_cli.console import Progress
from ness_cli.data.folder_check import check_folder
from ness_cli.errors import InputError


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three training and two test images of two classes, all different."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 3), ("test", 2)):
        for name in ("ant", "bee"):
            (tmp_path / "a" / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "a" / split / name / f"{index}.png")
    return tmp_path / "a"


def _check(path: Path):
    return check_folder(str(path), Progress())


def test_a_good_folder_is_counted_and_has_no_problem(folder):
    Image.new("L", (7, 9), 3).save(folder / "train/bee/grey.gif")
    found = _check(folder)
    assert found.counts == {"ant": {"train": 3, "test": 2}, "bee": {"train": 4, "test": 2}}
    assert dict(found.sizes) == {(6, 5): 10, (9, 7): 1}
    assert found.modes["RGB"] == 10
    assert (found.bad, found.repeated, found.refusals(), found.notes()) == ((), (), [], [])


def test_images_repeat_if_their_pixels_do_however_they_are_stored(folder):
    first = Image.open(folder / "train/ant/0.png")
    first.save(folder / "train/ant/again.bmp")  # within train
    first.save(folder / "test/bee/0.tiff")  # in test too, and in another class
    Image.open(folder / "test/ant/0.png").save(folder / "test/ant/9.png", compress_level=0)
    found = _check(folder)
    assert [{member.path for member in group} for group in found.repeated] == [
        {"test/ant/0.png", "test/ant/9.png"},
        {"train/ant/0.png", "train/ant/again.bmp", "test/bee/0.tiff"},
    ]
    within_train, within_test, across, torn = found.notes()
    assert within_train == "images that repeat another one in train: 1"
    assert within_test == "images that repeat another one in test: 1"
    assert across.startswith("test images that are in train or valid too: 1;")
    assert torn.startswith("images that are in several classes: 1,")
    assert found.refusals() == []


def test_pixels_in_another_shape_are_another_image(folder):
    pixels = np.arange(90, dtype=np.uint8)
    Image.fromarray(pixels.reshape(6, 5, 3)).save(folder / "train/ant/a.png")
    Image.fromarray(pixels.reshape(5, 6, 3)).save(folder / "train/ant/b.png")
    assert _check(folder).repeated == ()


def test_every_bad_file_is_a_problem_and_not_counted(folder):
    (folder / "train/ant/0.png").write_bytes(b"")
    (folder / "train/ant/list.txt").write_text("of no use")
    Image.new("RGB", (5, 6)).save(folder / "lost.png")
    with zipfile.ZipFile(folder.parent / "a.zip", "w") as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder))
    for place in (folder, folder.parent / "a.zip"):
        found = _check(place)
        assert {file.path for file in found.bad} == {
            "lost.png",
            "train/ant/0.png",
            "train/ant/list.txt",
        }
        assert found.counts["ant"] == {"train": 2, "test": 2}
        (refusal,) = found.refusals()
        assert "3 files cannot be used" in refusal.what


def test_a_class_that_is_never_tested_is_a_problem(folder):
    for path in (folder / "test/bee").iterdir():
        path.unlink()
    (refusal,) = _check(folder).refusals()
    assert refusal.what == "class 'bee' has images in train and none in test"
    assert _check(folder / "train").refusals() == []
    for name in ("1.png", "2.png"):
        (folder / "train/bee" / name).unlink()
    (refusal,) = _check(folder / "train").refusals()
    assert "class 'bee' has 1 image" in refusal.what


def test_a_place_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="no images found"):
        _check(tmp_path)
