"""The user's own images, in every shape in which they come."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ness_cli.console import Progress
from ness_cli.data.store import prepare
from ness_cli.data.stream_manifest import plan
from ness_cli.data.task_stream import TaskStream
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.image_folder import Options

CLASSES = ("ant", "bee", "cat", "dog")


def _image(seed: int, size=(6, 5), mode="RGB") -> Image.Image:
    rng = np.random.default_rng(seed)
    shape = size[::-1] if mode == "L" else (*size[::-1], 3)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def _make(folder: Path, *, per_class=(6, 3), mode="RGB", size=(6, 5)) -> Path:
    for s, split in enumerate(("train", "test")):
        for c, name in enumerate(CLASSES):
            place = folder / split / name
            place.mkdir(parents=True)
            for i in range(per_class[s]):
                _image(1000 * s + 100 * c + i, size, mode).save(place / f"{i}.png")
    (folder / "train" / ".DS_Store").write_text("clutter")
    (folder / "Thumbs.db").write_text("clutter")
    return folder


def _options(path, **more) -> Options:
    paths = path if isinstance(path, str) else str(path)
    return Options(**{"path": paths, "classes_per_task": 2, "valid_fraction": 0.0, **more})


def _open(options: Options, cache: Path) -> TaskStream:
    return TaskStream(prepare(options, cache, Progress()), cache, remedy="")


def _zip(folder: Path, to: Path, top: str = "") -> Path:
    with zipfile.ZipFile(to, "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            if path.is_file():
                archive.write(path, top + str(path.relative_to(folder)))
    return to


def _tar(folder: Path, to: Path) -> Path:
    with tarfile.open(to, "w:gz") as archive:
        archive.add(folder, arcname="wrapped")
    return to


def test_pixels_and_labels_are_those_of_the_files(tmp_path):
    stream = _open(_options(_make(tmp_path / "a")), tmp_path / "cache")
    assert [stream.info(t).classes for t in (1, 2)] == [("ant", "bee"), ("cat", "dog")]
    split = stream.split(2, "test")
    assert split.labels.bincount().tolist() == [3, 3]
    for label, seeds in enumerate([(1200, 1201, 1202), (1300, 1301, 1302)]):
        expected = {np.asarray(_image(seed)).transpose(2, 0, 1).tobytes() for seed in seeds}
        own = split.images[split.labels == label]
        assert {image.numpy().tobytes() for image in own} == expected


def test_stored_images_are_mixed_so_that_a_batch_looks_like_its_task(tmp_path):
    stream = _open(_options(_make(tmp_path / "a", per_class=(40, 40))), tmp_path / "cache")
    for split in ("train", "test"):
        halves = stream.split(1, split).labels.chunk(2)
        assert all(8 <= int(half.sum()) <= 32 for half in halves)


def test_directory_zip_and_tar_are_the_same_images(tmp_path):
    folder = _make(tmp_path / "a")
    places = [folder, _zip(folder, tmp_path / "a.zip"), _zip(folder, tmp_path / "b.zip", "top/")]
    places.append(_tar(folder, tmp_path / "a.tar.gz"))
    streams = [_open(_options(place), tmp_path / "cache") for place in places]
    assert len({stream.key for stream in streams}) == 4
    for task in (1, 2):
        for name in ("train", "test"):
            first, *others = (stream.split(task, name) for stream in streams)
            for other in others:
                assert torch.equal(first.images, other.images)
                assert torch.equal(first.labels, other.labels)


def test_several_paths_are_merged_by_class(tmp_path):
    folder = _make(tmp_path / "a")
    parts = [tmp_path / "p", tmp_path / "q"]
    for part, names in zip(parts, (CLASSES[:2], CLASSES[2:]), strict=True):
        for split in ("train", "test"):
            for name in names:
                (part / split).mkdir(parents=True, exist_ok=True)
                (folder / split / name).rename(part / split / name)
    options = Options(path=[str(p) for p in parts], classes_per_task=4, valid_fraction=0.0)
    stream = _open(options, tmp_path / "cache")
    assert stream.info(1).classes == CLASSES
    assert stream.split(1, "train").labels.bincount().tolist() == [6, 6, 6, 6]


def test_the_place_of_the_images_does_not_matter(tmp_path):
    folder = _make(tmp_path / "a")
    key = _open(_options(folder), tmp_path / "cache").key
    assert _open(_options(folder.rename(tmp_path / "b")), tmp_path / "cache").key == key


def test_a_changed_image_is_another_stream(tmp_path):
    folder = _make(tmp_path / "a")
    key = _open(_options(folder), tmp_path / "cache").key
    _image(77).save(folder / "train" / "ant" / "0.png")
    assert _open(_options(folder), tmp_path / "cache").key != key


def test_one_folder_of_classes_is_split_by_fraction_within_each_class(tmp_path):
    folder = _make(tmp_path / "a", per_class=(10, 0)) / "train"
    with pytest.raises((SettingsError, InputError)) as error:
        _open(_options(folder), tmp_path / "cache")
    assert "data.test_fraction" in error.value.remedy
    stream = _open(_options(folder, test_fraction=0.2), tmp_path / "cache")
    for task in (1, 2):
        assert stream.split(task, "train").labels.bincount().tolist() == [8, 8]
        assert stream.split(task, "test").labels.bincount().tolist() == [2, 2]


def test_validation_and_training_images_are_all_there_are(tmp_path):
    folder = _make(tmp_path / "a")
    whole = _open(_options(folder), tmp_path / "cache").split(1, "train")
    stream = _open(_options(folder, valid_fraction=0.25), tmp_path / "cache")
    train, valid = stream.split(1, "train"), stream.split(1, "valid")
    assert (len(train.labels), len(valid.labels)) == (9, 3)
    together = torch.cat([train.images, valid.images]).flatten(1)
    assert sorted(map(tuple, together.tolist())) == sorted(
        map(tuple, whole.images.flatten(1).tolist())
    )


def test_grey_images_stay_grey_and_can_be_made_colour(tmp_path):
    folder = _make(tmp_path / "a", mode="L")
    grey = _open(_options(folder), tmp_path / "cache")
    colour = _open(_options(folder, channels="rgb"), tmp_path / "cache")
    assert (grey.image_shape, colour.image_shape) == ((1, 5, 6), (3, 5, 6))
    split, wide = grey.split(1, "train"), colour.split(1, "train")
    assert torch.equal(split.images.expand(-1, 3, -1, -1), wide.images)


def test_sizes_that_differ_need_a_size(tmp_path):
    folder = _make(tmp_path / "a")
    _image(5, (9, 9)).save(folder / "train" / "bee" / "odd.png")
    with pytest.raises(InputError, match=r"data\.size|9 x 9") as error:
        _open(_options(folder), tmp_path / "cache")
    assert "data.size" in f"{error.value.what} {error.value.remedy}"
    assert _open(_options(folder, size=4), tmp_path / "cache").image_shape == (3, 4, 4)
    assert _open(_options(folder, size=[4, 7]), tmp_path / "cache").image_shape == (3, 4, 7)


def test_mean_and_std_are_those_of_task_1s_training_images(tmp_path):
    stream = _open(_options(_make(tmp_path / "a"), valid_fraction=0.3), tmp_path / "cache")
    pixels = stream.split(1, "train").images.double().transpose(0, 1).flatten(1) / 255
    assert stream.info(2).mean == pytest.approx(pixels.mean(1).tolist())
    assert stream.info(2).std == pytest.approx(pixels.std(1, unbiased=False).tolist())


def test_limits_and_orders(tmp_path):
    folder = _make(tmp_path / "a")
    options = _options(folder, limit_per_class=2, class_order=["dog", "ant"], num_tasks=1)
    stream = _open(options, tmp_path / "cache")
    assert stream.num_tasks == 1
    assert stream.info(1).classes == ("dog", "ant")
    assert len(stream.split(1, "train").labels) == 4
    orders = {
        tuple(
            c
            for t in (1, 2)
            for c in _open(
                _options(folder, class_order="seeded", split_seed=seed), tmp_path / "cache"
            )
            .info(t)
            .classes
        )
        for seed in range(4)
    }
    assert len(orders) > 1
    assert all(sorted(order) == sorted(CLASSES) for order in orders)


def test_uneven_tasks(tmp_path):
    folder = _make(tmp_path / "a")
    stream = _open(_options(folder, classes_per_task=[3, 1]), tmp_path / "cache")
    assert [stream.info(t).num_classes for t in (1, 2)] == [3, 1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"classes_per_task": 3}, r"leave 1 of 4 over"),
        ({"classes_per_task": [3, 3]}, "class"),
        ({"num_tasks": 3}, "task"),
        ({"class_order": ["ant", "bear"]}, "bear"),
        ({"class_order": ["ant", "ant"]}, "ant"),
        ({"mean": [0.5]}, "data.mean"),
        ({"std": [0.5, 0.5, 0.0]}, "data.std"),
    ],
)
def test_settings_that_do_not_fit_the_images_are_refused(tmp_path, more, words):
    folder = _make(tmp_path / "a")
    with pytest.raises(SettingsError, match=words):
        _open(_options(folder, **more), tmp_path / "cache")


def test_a_class_without_test_images_is_named(tmp_path):
    folder = _make(tmp_path / "a")
    for path in (folder / "test" / "cat").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="cat"):
        _open(_options(folder), tmp_path / "cache")


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    folder = _make(tmp_path / "a")
    if content is None:
        whole = io.BytesIO()
        _image(1, (60, 60)).save(whole, "PNG")
        content = whole.getvalue()[:200]
    (folder / "train" / "bee" / "broken.png").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.png"):
        _open(_options(folder, size=6), tmp_path / "cache")


def test_a_path_that_is_missing_or_no_archive_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        _open(_options(tmp_path / "nowhere"), tmp_path / "cache")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(InputError, match=r"text\.zip"):
        _open(_options(tmp_path / "text.zip"), tmp_path / "cache")


@pytest.mark.parametrize(("per_class", "valid_fraction"), [((6, 3), 0.2), ((2, 1), 0.9)])
def test_the_plan_counts_what_preparing_makes(tmp_path, per_class, valid_fraction):
    options = _options(_make(tmp_path / "a", per_class=per_class), valid_fraction=valid_fraction)
    planned, made = plan(options), prepare(options, tmp_path / "cache", Progress())
    for mine, other in zip(planned["tasks"], made["tasks"], strict=True):
        for name, split in mine["splits"].items():
            assert split["count"] == other["splits"][name]["count"]
    assert planned["image_shape"] == made["image_shape"]


@pytest.mark.parametrize("split_seed", range(8))
def test_validation_takes_no_class_out_of_training(tmp_path, split_seed):
    options = _options(
        _make(tmp_path / "a", per_class=(2, 1)),
        classes_per_task=4,
        valid_fraction=0.5,
        split_seed=split_seed,
    )
    stream = _open(options, tmp_path / "cache")
    assert stream.split(1, "train").labels.unique().tolist() == [0, 1, 2, 3]
    assert len(stream.split(1, "valid").labels) == 4


def test_a_damaged_cache_is_made_anew(tmp_path):
    options = _options(_make(tmp_path / "a"))
    stream = _open(options, tmp_path / "cache")
    before = stream.split(1, "train").images
    path = tmp_path / "cache" / stream.key[:32] / "task-01-train.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert torch.equal(_open(options, tmp_path / "cache").split(1, "train").images, before)


@pytest.mark.parametrize(("per_task", "example"), [(3, r"\[2,2\]"), (5, "to 4 or less")])
def test_classes_that_do_not_fit_come_with_an_example_that_does(tmp_path, per_task, example):
    folder = _make(tmp_path / "a")
    with pytest.raises(SettingsError) as error:
        plan(_options(folder, classes_per_task=per_task))
    assert re.search(example, error.value.remedy)


def test_a_folder_of_images_without_classes_is_one_line(tmp_path):
    folder = _make(tmp_path / "a") / "train" / "ant"
    with pytest.raises(InputError, match=r"0\.png and 5 more") as error:
        plan(_options(folder))
    assert "\n" not in error.value.what
