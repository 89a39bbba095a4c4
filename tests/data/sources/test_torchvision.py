"""Data sets that torchvision reads, made small in their own layout."""

from __future__ import annotations

import bz2
import inspect
import pickle
import zipfile

import numpy as np
import published_files as made
import pytest
import torch
from PIL import Image

from ness_cli import registry
from ness_cli.console import Progress
from ness_cli.data.sources import torchvision
from ness_cli.data.store import prepare
from ness_cli.data.stream_manifest import plan
from ness_cli.data.task_stream import TaskStream
from ness_cli.errors import InputError, MissingFilesError
from ness_cli.settings.sources.torchvision import Options
from ness_cli.vision_libraries import import_torchvision


def _options(path, dataset, **more):
    values = {"path": str(path), "dataset": dataset, "valid_fraction": 0.0, "download": False}
    return Options.model_validate({**values, "classes_per_task": 2, **more})


def _dtd(root, classes=("banded", "dotted", "lined", "waffled")):
    images, labels = root / "dtd" / "dtd" / "images", root / "dtd" / "dtd" / "labels"
    labels.mkdir(parents=True)
    listed = {"train": [], "val": [], "test": []}
    for k, name in enumerate(classes):
        (images / name).mkdir(parents=True)
        for i in range(6):
            file = images / name / f"{name}_{i}.jpg"
            Image.fromarray(made.pixels(10 * k + i, (20 + i, 24, 3))).save(file)
            listed["test" if i == 5 else "train"].append(f"{name}/{name}_{i}.jpg")
    for split, names in listed.items():
        (labels / f"{split}1.txt").write_text("\n".join(names))


@pytest.fixture
def nothing_is_unpickled(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was unpickled")

    import_torchvision()  # its import derives a class from Unpickler
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)


@pytest.mark.usefixtures("nothing_is_unpickled")
def test_a_data_set_of_files(tmp_path):
    _dtd(tmp_path)
    options = _options(tmp_path, "DTD", size=16)
    planned, manifest = plan(options), prepare(options, tmp_path / "cache", Progress())
    stream = TaskStream(manifest, tmp_path / "cache", remedy="")
    assert [stream.info(t).classes for t in (1, 2)] == [("banded", "dotted"), ("lined", "waffled")]
    assert stream.image_shape == (3, 16, 16)
    assert planned["tasks"][1]["splits"]["train"]["count"] == 10
    (tmp_path / "dtd" / "dtd" / "images" / "lined" / "lined_2.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(InputError, match="DTD: train image 12"):
        prepare(options, tmp_path / "cache", Progress())


@pytest.mark.usefixtures("nothing_is_unpickled")
@pytest.mark.parametrize("source", ["mnist", "svhn"])
def test_a_data_set_that_has_a_source_of_its_own(tmp_path, source):
    getattr(made, source)(tmp_path)
    options = registry.load_class(
        "ness_cli.settings.sources", source, setting="test", attribute="Options"
    )(path=str(tmp_path))
    assert len(prepare(options, tmp_path / "cache", Progress())["tasks"]) == 5


@pytest.mark.usefixtures("nothing_is_unpickled")
def test_a_data_set_of_arrays(tmp_path):
    for name, seed in (("usps.bz2", 1), ("usps.t.bz2", 2)):
        pixels = made.pixels(seed, (20, 256)).astype(float) / 127.5 - 1
        lines = []
        for i, row in enumerate(pixels):
            values = " ".join(f"{k + 1}:{v:.6f}" for k, v in enumerate(row))
            lines.append(f"{i % 10 + 1} {values}")
        (tmp_path / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    manifest = prepare(_options(tmp_path, "USPS"), tmp_path / "cache", Progress())
    stream = TaskStream(manifest, tmp_path / "cache", remedy="")
    assert (stream.num_tasks, stream.image_shape) == (5, (1, 16, 16))
    split = stream.split(3, "test")
    known = made.pixels(2, (20, 16, 16))[[4, 14]].astype(int)
    for image in split.images[split.labels == 0].numpy().astype(int):
        assert min(np.abs(image[0] - other).max() for other in known) <= 1


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(MissingFilesError, match="gtsrb") as error:
        prepare(_options(tmp_path, "GTSRB"), tmp_path / "cache", Progress())
    assert "torchvision.datasets.GTSRB" in error.value.remedy
    with pytest.raises(MissingFilesError) as error:
        plan(_options(tmp_path, "GTSRB", download=True))
    assert error.value.can_download
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", torchvision._SETS)
def test_every_set_is_one_of_torchvisions_with_the_arguments_we_give(name):
    parameters = inspect.signature(getattr(import_torchvision().datasets, name)).parameters
    for arguments in (torchvision._SETS[name].train, torchvision._SETS[name].test or {}):
        assert set(arguments) <= set(parameters)
    assert "download" in parameters


def test_labels_are_found_wherever_torchvision_keeps_them():
    class Set:
        _samples = (("a.png", 1), ("b.png", 0))

    assert torchvision._labels(Set(), "it").tolist() == [1, 0]
    with pytest.raises(InputError):
        torchvision._labels(object(), "it")
    assert torchvision._class_names(object(), {"train": torch.tensor([0, 11])})[-1] == "11"


@pytest.mark.parametrize("error", [EOFError(), zipfile.BadZipFile("no zip"), KeyError("x")])
def test_whatever_torchvision_raises_the_files_are_named(tmp_path, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(import_torchvision().datasets, "USPS", fails)
    with pytest.raises(MissingFilesError, match=r"usps\.bz2.* not whole"):
        prepare(_options(tmp_path, "USPS"), tmp_path / "cache", Progress())


def test_a_truncated_file_is_named(tmp_path):
    for name in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / name).write_bytes(bz2.compress(made.pixels(1, (2000,)).tobytes())[:999])
    with pytest.raises(MissingFilesError, match="end-of-stream"):
        prepare(_options(tmp_path, "USPS"), tmp_path / "cache", Progress())
