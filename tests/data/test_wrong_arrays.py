"""Arrays that would be read wrongly in silence, or crash: each is named instead."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import published_files as made
import pytest
import torch
from scipy.io import savemat

from ness_cli import registry
from ness_cli.console import Progress
from ness_cli.data.formats import labels
from ness_cli.data.store import prepare
from ness_cli.errors import InputError


def _prepare(source: str, path: Path, **more) -> dict:
    model = registry.load_class(
        "ness_cli.settings.sources", source, setting="test", attribute="Options"
    )
    values = {"valid_fraction": 0.0, "path": str(path), "split_seed": 0, **more}
    return prepare(model.model_validate(values), path.parent / "cache", Progress())


def _refused(words: str, source: str, path: Path, **more) -> None:
    with pytest.raises(InputError) as error:
        _prepare(source, path, **more)
    assert words in f"{error.value.what} {error.value.remedy}"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 0.9], "number 1 is 0.9"),
        ([0, float("nan")], "number 1 is nan"),
        ([0, 1e300], "number 1 is 1e+300"),
        (np.array([2**64 - 1], np.uint64), "number 0 is 18446744073709551615"),
        ([0, 2**70], "no whole numbers"),
        ([True, False], "hold True"),
        (["a"], "hold 'a'"),
        ([None], "hold None"),
        ([[0], [1]], "shape [2, 1]"),
        ([[0], [1, 2]], "no list"),
        (3, "shape []"),
        ({}, "shape []"),
    ],
)
def test_only_whole_numbers_are_labels(values, words):
    with pytest.raises(InputError, match="them") as error:
        labels.whole_numbers(values, "them")
    assert words in error.value.what


@pytest.mark.parametrize(
    "values", [[3, 0], [3.0, 0.0], (3, 0), np.array([3, 0], ">u2"), np.array([3, 0], np.float32)]
)
def test_whole_numbers_are_read_whatever_their_type(values):
    found = labels.whole_numbers(values, "they")
    assert found.dtype == torch.int64
    assert found.tolist() == [3, 0]
    assert labels.whole_numbers([], "they").tolist() == []
    assert labels.whole_numbers([[3], [0]], "they", matrix=True).tolist() == [3, 0]


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"fine_labels": [[k] for k in range(100)]}, "shape [100, 1]"),
        ({"fine_labels": [k + 0.9 for k in range(100)]}, "is 0.9"),
        ({"data": [[1], [1, 2]]}, "3072"),
        ({"data": b"abc"}, "3072"),
    ],
)
def test_cifar(tmp_path, train, words):
    content = {"data": made.pixels(1, (100, 3072)), "fine_labels": list(range(100))}
    made.cifar100(tmp_path / "d", train=content | train)
    _refused(words, "cifar100", tmp_path / "d")


def test_equal_names_lose_no_class(tmp_path):
    made.cifar100(tmp_path / "d", meta={"fine_label_names": [f"c{k // 2}" for k in range(100)]})
    _refused("2 classes are called 'c0'", "cifar100", tmp_path / "d")


@pytest.mark.parametrize("y", [np.full((40, 1), 1.7), "abc", np.array([["a"]] * 40, object)])
def test_svhn_digits(tmp_path, y):
    made.svhn(tmp_path / "d")
    images = made.pixels(1, (32, 32, 3, 40))
    savemat(tmp_path / "d" / "train_32x32.mat", {"X": images, "y": y})
    _refused("whole numbers", "svhn", tmp_path / "d")


def test_svhn_digits_of_any_type_are_read(tmp_path):
    made.svhn(tmp_path / "d")
    for split in ("train", "test"):
        digits = np.where(made.labels(split) == 0, 10, made.labels(split)).astype(float)
        content = {"X": made.pixels(1, (32, 32, 3, len(digits))), "y": digits}
        savemat(tmp_path / "d" / f"{split}_32x32.mat", content)
    found = _prepare("svhn", tmp_path / "d")
    assert [each["splits"]["train"]["count"] for each in found["tasks"]] == [8] * 5


@pytest.mark.parametrize("source", ["npz", "svhn", "mnist", "mini-imagenet"])
def test_test_images_of_another_size_need_a_size(tmp_path, source):
    path = tmp_path / "d"
    if source == "npz":
        made.npz(tmp_path / "d", test_images=made.pixels(1, (6, 14, 14)))
        path = (tmp_path / "d.npz").rename(tmp_path / "d")
    else:
        getattr(made, source.replace("-", "_"))(path)
    if source == "svhn":
        content = {"X": made.pixels(1, (16, 16, 3, 20)), "y": made.labels("test")}
        savemat(path / "test_32x32.mat", content)
    if source == "mnist":
        data = made.idx(made.pixels(1, (20, 14, 14)))
        (path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(data))
    if source == "mini-imagenet":
        content = {"images": made.pixels(1, (200, 4, 4, 3)), "labels": made.labels("test", 100)}
        (path / "test.pkl").write_bytes(pickle.dumps(content))
    more = {"classes_per_task": 3} if source == "npz" else {}
    _refused("data.size", source, path, **more)
    assert _prepare(source, path, size=8, **more)["image_shape"][1:] == [8, 8]


def _npz(path: Path, **changes) -> Path:
    made.npz(path, **changes)
    return path


def test_test_images_of_other_channels_need_channels(tmp_path):
    path = _npz(tmp_path / "m.npz", test_images=made.pixels(1, (6, 28, 28, 3)))
    _refused("data.channels", "npz", path, classes_per_task=3)
    made_of = _prepare("npz", path, classes_per_task=3, channels="grey")
    assert made_of["image_shape"] == [1, 28, 28]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"val_images": made.pixels(1, (3, 14, 28))}, "val_images are 1 x 14 x 28"),
        ({"val_images": made.pixels(1, (3, 28, 28, 3))}, "val_images are 3 x 28 x 28"),
        (
            {"train_labels": np.zeros(11, int), "val_labels": np.zeros(4, int)},
            "train_images: 12 images and 11 labels",
        ),
        ({"train_images": made.pixels(1, (12, 0, 28)), "val_images": None}, "no pixels"),
        (
            {
                "train_images": np.zeros((0, 8, 8), np.uint8),
                "train_labels": np.zeros(0, np.uint8),
                "val_images": None,
                "test_images": None,
            },
            "there are no images",
        ),
    ],
)
def test_npz(tmp_path, changes, words):
    _refused(words, "npz", _npz(tmp_path / "m.npz", **changes), classes_per_task=3)


def test_a_single_array_is_no_npz(tmp_path):
    np.save(tmp_path / "m.npy", made.pixels(1, (3, 8, 8)))
    _refused("numpy.savez", "npz", tmp_path / "m.npy")


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        (
            "train-labels-idx1-ubyte",
            (40, 28, 28),
            "train-labels-idx1-ubyte cannot be read: x should have 1 dimension instead of 3",
        ),
        (
            "train-images-idx3-ubyte",
            (40,),
            "train-images-idx3-ubyte cannot be read: x should have 3 dimension instead of 1",
        ),
        ("train-images-idx3-ubyte", (40, 0, 28), "train-images-idx3-ubyte cannot be read"),
    ],
)
def test_idx_files_in_each_others_place(tmp_path, name, shape, words):
    made.mnist(tmp_path / "d", packed=False)
    (tmp_path / "d" / name).write_bytes(made.idx(made.pixels(1, shape)))
    _refused(words, "mnist", tmp_path / "d")


@pytest.mark.parametrize("inside", [True, False])
def test_an_idx_file_that_is_a_folder(tmp_path, inside):
    made.mnist(tmp_path / "d", packed=False)
    path = tmp_path / "d" / "t10k-images-idx3-ubyte"
    file = path.rename(tmp_path / "file")
    path.mkdir()
    if inside:
        file.rename(path / path.name)
        assert _prepare("mnist", tmp_path / "d")["image_shape"] == [1, 28, 28]
    else:
        _refused("is a folder", "mnist", tmp_path / "d")


def test_unpacked_clothing_is_not_taken_for_digits(tmp_path, monkeypatch):
    from ness_cli.data.formats import mnist_and_svhn

    made.mnist(tmp_path / "d", packed=False)
    md5 = mnist_and_svhn.md5_of(tmp_path / "d" / "train-images-idx3-ubyte")
    monkeypatch.setitem(mnist_and_svhn._owners(), md5, "Fashion-MNIST")
    _refused("a file of Fashion-MNIST, not of MNIST", "mnist", tmp_path / "d")
    assert len(mnist_and_svhn._owners()) == 12 + 8 + 1


def _cache(folder: Path, **changes) -> Path:
    made.mini_imagenet_cache(folder, side=4)
    path = folder / "mini-imagenet-cache-val.pkl"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_data": made.pixels(1, (48, 6, 4, 3))}, "val.pkl are 3 x 6 x 4"),
        ({"class_dict": {}}, "class_dict"),
        ({"class_dict": [1]}, "class_dict"),
        ({"class_dict": {"a": [0], 5: [1]}}, "all text or all whole numbers"),
        ({"class_dict": {(1, 2): [0]}}, "all text or all whole numbers"),
        ({"class_dict": {"a": ["q"]}}, "images of class 'a' are no whole numbers: they hold 'q'"),
        ({"class_dict": {"a": [0.6]}}, "number 0 is 0.6"),
        ({"class_dict": {"a": [[0, 1]]}}, "shape [1, 2]"),
        ({"class_dict": {"a": 3}}, "shape []"),
        ({"class_dict": {"a": [3, -1]}}, "no image -1, they are numbered 0 to 47"),
        ({"class_dict": {"a": [3, 48]}}, "no image 48"),
        ({"class_dict": {"ntrain003": [0, 1, 2]}}, "2 classes are called 'ntrain003'"),
    ],
)
def test_mini_imagenet_caches(tmp_path, changes, words):
    more = {"test_fraction": 0.4, "classes_per_task": 1}
    _refused(words, "mini-imagenet", _cache(tmp_path / "d", **changes), **more)


def test_classes_of_a_cache_may_be_numbered(tmp_path):
    changes = {"class_dict": {k: [3 * k, 3 * k + 1] for k in range(16)}}
    more = {"test_fraction": 0.4, "classes_per_task": 50, "class_order": "sorted"}
    found = _prepare("mini-imagenet", _cache(tmp_path / "d", **changes), **more)
    assert "15" in found["tasks"][1]["classes"]
