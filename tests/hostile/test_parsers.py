"""Mutated files of every format: read or refused in a line, in 10^9 bytes and a minute."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import signal
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import published_files as made
import pytest
import torch
from hostile.limits import try_all
from hostile.mutations import mutations
from PIL import Image

from ness_cli import files, tensor_files
from ness_cli.data.formats import mnist_and_svhn
from ness_cli.data.formats.archive import Storage, opened_storages
from ness_cli.data.formats.image import Form, pillow_warnings
from ness_cli.data.sources import cifar100 as cifar100_source
from ness_cli.data.sources import npz as npz_source
from ness_cli.data.sources import parquet as parquet_source
from ness_cli.settings import yaml_files
from ness_cli.settings.sources.npz import Options as NpzOptions
from ness_cli.settings.sources.parquet import Options as ParquetOptions

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")

Reader = Callable[[bytes], object]


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
    pyarrow = pytest.importorskip("pyarrow")
    path = folder / "train.parquet"
    table = pyarrow.table({"image": [_image("png")] * 4, "label": [0, 1, 0, 1]})
    meta = {"info": {"features": {"label": {"names": ["a", "b"]}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(meta)})
    import pyarrow.parquet

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
                archive.writestr(name, data)
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


PARSERS: dict[str, Callable[[Path], tuple[bytes, Reader]]] = {
    "idx": _idx_images,
    "packed idx": _packed_idx_labels,
    **{f"pickle {p}": lambda folder, p=p: _pickled(folder, p) for p in (0, 2, 4)},
    "npz": _npz,
    "parquet": _parquet,
    **{kind: lambda folder, kind=kind: _archive(folder, kind) for kind in ("zip", "w", "w:gz")},
    **{kind: lambda folder, kind=kind: _picture(folder, kind) for kind in ("png", "jpeg", "tiff")},
    "safetensors": _safetensors,
    "json": _json,
    "yaml": _yaml,
}


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize("count", [60, pytest.param(5000, marks=pytest.mark.slow)])
def test_a_mutated_file_is_read_or_refused(name, count, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    whole, read = PARSERS[name](tmp_path)
    assert try_all([whole], read, tmp_path).check() == {"read": 1}
    outcomes = try_all(mutations(whole, count), read, tmp_path).check()
    assert sum(outcomes.values()) == count
    assert len(outcomes) > 1, "the changes changed nothing"
    print(f"{name}: {dict(outcomes)}")


def test_what_escapes_is_noticed(tmp_path):
    """The harness itself: a parser that writes elsewhere, runs a program or dies is found out."""
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    found = try_all([b""], lambda _: elsewhere.write_bytes(b""), tmp_path)
    assert str(elsewhere) in found.escapes[0]
    assert "os.system" in try_all([b""], lambda _: os.system("true"), tmp_path).escapes[0]
    assert "MemoryError" in try_all([b""], lambda _: bytes(2 * 10**9), tmp_path).wrong[0]
    with pytest.raises(AssertionError, match="while trying number 0"):
        try_all([b""], lambda _: os.kill(os.getpid(), signal.SIGKILL), tmp_path)
