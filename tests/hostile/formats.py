"""A small good file of every format that is read from outside, and what reads it."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import made_up_run
import numpy as np
import published_files as made
import scipy.io
import torch
from PIL import Image

from ness_cli import files, tensor_files
from ness_cli.data.formats import mnist_and_svhn
from ness_cli.data.formats.archive import Storage, opened_storages
from ness_cli.data.formats.image import Form, pillow_warnings
from ness_cli.data.sources import cifar100 as cifar100_source
from ness_cli.data.sources import mini_imagenet
from ness_cli.data.sources import npz as npz_source
from ness_cli.data.sources import parquet as parquet_source
from ness_cli.engine.checkpoint import CheckpointFile
from ness_cli.files import write_record
from ness_cli.results.events import read_events
from ness_cli.results.history import read_history
from ness_cli.results.live_status import read_live
from ness_cli.run_dir import RunDir
from ness_cli.settings import yaml_files
from ness_cli.settings.resolve import resolve
from ness_cli.settings.sources.npz import Options as NpzOptions
from ness_cli.settings.sources.parquet import Options as ParquetOptions
from ness_cli.settings.study_files import read_study

Reader = Callable[[bytes], object]
Format = Callable[[Path], tuple[bytes, Reader]]
"""Given an empty folder, returns a good file and what reads others of its kind."""


class OneFile(Storage):
    """A storage with one file in it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(Path("one"))
        self._data = data

    def names(self) -> list[str]:
        return ["train"]

    def open(self, name: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def _image(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(made.pixels(1, (8, 9, 3))).save(file, kind)
    return file.getvalue()


def _idx_images(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "train-images-idx3-ubyte"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        mnist_and_svhn._read_idx(path)

    return made.idx(made.pixels(1, (3, 5, 5))), read


def _packed_idx_labels(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "train-labels-idx1-ubyte.gz"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        mnist_and_svhn._read_idx(path)

    return gzip.compress(made.idx(made.labels("train").astype(np.uint8))), read


def _matlab(folder: Path) -> tuple[bytes, Reader]:
    path, file = folder / "train_32x32.mat", io.BytesIO()
    labels = np.array([[1], [10], [2]], np.uint8)
    scipy.io.savemat(file, {"X": made.pixels(1, (32, 32, 3, 3)), "y": labels}, do_compression=True)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        mnist_and_svhn._read_svhn(path, "train")

    return file.getvalue(), read


def _pickled_classes(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "mini-imagenet-cache-train.pkl"
    content = {
        "image_data": made.pixels(1, (4, 6, 6, 3)),
        "class_dict": {"n01": [0, 2], "n02": np.array([1, 3])},
    }

    def read(data: bytes) -> None:
        path.write_bytes(data)
        mini_imagenet._read_cache([path])

    return pickle.dumps(content, 2), read


def _pickled(folder: Path, protocol: int) -> tuple[bytes, Reader]:
    data = made.pixels(1, (3, 3072))[:, :3072] // 250
    content = {"data": data, "fine_labels": [0, 1, 2], "names": ["a", b"b", 1.5, 10**30, None]}

    def read(data: bytes) -> None:
        cifar100_source._ARCHIVE._split(OneFile(data), "train")

    return pickle.dumps(content, protocol), read


def _npz(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "a.npz"
    file = io.BytesIO()
    np.savez_compressed(file, train_images=made.pixels(1, (4, 5, 5)), train_labels=np.arange(4) % 2)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with npz_source.opened(NpzOptions(path=str(path)), None):
            pass

    return file.getvalue(), read


def _parquet(folder: Path) -> tuple[bytes, Reader]:
    import pyarrow
    import pyarrow.parquet

    path = folder / "train.parquet"
    table = pyarrow.table({"image": [_image("png")] * 4, "label": [0, 1, 0, 1]})
    meta = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(meta)})
    pyarrow.parquet.write_table(table, path)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with parquet_source.opened(ParquetOptions(path=str(path)), None) as dataset:
            dataset.images("train", torch.arange(2), lambda _: None)

    return path.read_bytes(), read


def _archive(folder: Path, kind: str) -> tuple[bytes, Reader]:
    path = folder / "a.zip"
    file = io.BytesIO()
    contents = {f"train/{name}/{k}.png": _image("png") for name in "ab" for k in range(2)}
    if kind == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in contents.items():
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    else:
        with tarfile.open(fileobj=file, mode=kind) as archive:
            for name, data in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        with opened_storages([path]) as (storage,):
            for name in storage.names():
                storage.open(name).read()

    return file.getvalue(), read


def _picture(folder: Path, kind: str) -> tuple[bytes, Reader]:
    def read(data: bytes) -> None:
        with pillow_warnings():
            Form(3, (8, 8)).of_file(io.BytesIO(data), "the file")

    return _image(kind), read


def _safetensors(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "a.safetensors"
    tensor_files.write(path, {"a": torch.arange(6.0), "b": torch.zeros(2, 2)}, {"kind": "x"})

    def read(data: bytes) -> None:
        path.write_bytes(data)
        tensor_files.stored(path, remedy="")
        tensor_files.read_with_identity(path, remedy="")

    return path.read_bytes(), read


def _json(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "a.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        files.read_json(path, remedy="")

    return json.dumps({"a": [1, 2.5, None], "b": {"c": "text"}}).encode(), read


def _yaml(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "a.yaml"
    text = b"a: &x {lr: 1e-3, b: [1, 2, !!int '3']}\nc: {<<: *x, d: \"\\x41\"}\ne: 0x1f\nf: ~\n"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        yaml_files.read(path)

    return text, read


def _checkpoint(folder: Path) -> tuple[bytes, Reader]:
    file = CheckpointFile(folder / "checkpoint.safetensors", {"kind": "checkpoint"}, "")
    file.save({"a": torch.arange(6.0)}, {"epoch": 3})

    def read(data: bytes) -> None:
        file.path.write_bytes(data)
        file.load()

    return file.path.read_bytes(), read


def _preset(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "mine.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        resolve(str(path))

    lines = ("extends: digits", "about: {seeds: [1, 2]}", "train: {lr: 0.05, epochs: 2}")
    return "\n".join(lines).encode(), read


def _study(folder: Path) -> tuple[bytes, Reader]:
    path = folder / "study.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_study(path).variants()

    text = (
        "base: digits\nseeds: [1, 2]\nrows:\n  a: [train.lr=0.1]\ngrid:\n  train.epochs: [1, 2]\n"
    )
    return text.encode(), read


def _of_a_run(folder: Path, name: str) -> tuple[bytes, Reader]:
    """Return a file of a run, read as ``ness status --watch``, reports and trackers do."""
    run = made_up_run.made_up(folder / "run", 1, order=range(2))
    path = run / name
    if path.suffix == ".json":
        write_record(path, json.loads(path.read_bytes()))
    else:
        entry = {"epoch": 1, "lr": 0.1, "train_loss": 2.0, "seconds": 1.5}
        path.write_text("".join(json.dumps({**entry, "epoch": n}) + "\n" for n in (1, 2)))

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_live(run)
        read_history(path) if path.suffix == ".jsonl" else None
        read_events(RunDir(run))

    return path.read_bytes(), read


_PACKINGS = ("", "gz", "bz2", "xz")
RARE_PICTURES = ("AVIF", "BMP", "DDS", "GIF", "ICO", "JPEG2000", "PCX", "PPM", "QOI", "SGI", "TGA")
"""Formats of images that few have; not every Pillow writes all of them."""
_PICTURES = ("PNG", "JPEG", "TIFF", "WEBP", *RARE_PICTURES)
Image.init()
_OF_A_RUN = ("run.json", "stream.json", "task-01/accuracy.json", "task-01/history.jsonl")
FORMATS: dict[str, Format] = {
    "idx": _idx_images,
    "packed idx": _packed_idx_labels,
    "MATLAB": _matlab,
    **{f"pickle {p}": partial(_pickled, protocol=p) for p in (0, 2, 4)},
    "pickle of classes": _pickled_classes,
    "npz": _npz,
    "parquet": _parquet,
    "zip": partial(_archive, kind="zip"),
    **{f"tar{end and f'.{end}'}": partial(_archive, kind=f"w:{end}") for end in _PACKINGS},
    **{kind: partial(_picture, kind=kind) for kind in _PICTURES if kind in Image.SAVE},
    "safetensors": _safetensors,
    "checkpoint": _checkpoint,
    **{name: partial(_of_a_run, name=name) for name in _OF_A_RUN},
    "JSON": _json,
    "YAML": _yaml,
    "preset": _preset,
    "study": _study,
}
