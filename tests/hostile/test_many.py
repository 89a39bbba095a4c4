"""A hundred thousand and a million entries: in 10^9 bytes and a minute of the processor, or
refused in a line."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile.limits import try_all
from PIL import Image

from ness_cli import files, tensor_files
from ness_cli.data.formats.archive import opened_storages
from ness_cli.data.formats.folder import arrange
from ness_cli.data.sources import image_folder
from ness_cli.errors import SettingsError
from ness_cli.settings import yaml_files
from ness_cli.settings.sources.image_folder import Options
from ness_cli.settings.study_files import read_study

MANY, MOST = 10**5, 10**6


def _names(count: int) -> Iterator[bytes]:
    return (b"%c/%06d.png" % (97 + k % 2, k) for k in range(count))


def _zip(path: Path, count: int) -> None:
    """Write a zip whose members all begin at the same empty one."""
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 12, 0) + b"a/000000.png"
    numbers = (20, 20, 0, 0, 0, 33, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0)
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", *numbers)
    directory = b"".join(entry + name for name in _names(count))
    size, start = len(directory), len(local)
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(local + directory + end64 + locator + end)


def _tar(path: Path, count: int) -> None:
    header = bytearray(tarfile.TarInfo("a/000000.png").tobuf(tarfile.USTAR_FORMAT))
    header[148:156] = b" " * 8
    without_name = sum(header[12:])
    with gzip.open(path, "wb", 1) as file:
        for name in _names(count):
            header[:12] = name
            header[148:156] = b"%06o\0 " % (without_name + sum(name))
            file.write(header)
        file.write(bytes(1024))


@pytest.mark.slow
@pytest.mark.parametrize("count", [MANY, MOST])
@pytest.mark.parametrize("make", [_zip, _tar])
def test_the_files_of_an_archive_are_listed(make, count, tmp_path):
    def read(_: bytes) -> None:
        with opened_storages([path]) as storages:
            listing = arrange(storages)
            assert sum(1 for _ in listing.files()) == count

    path = tmp_path / "many"
    make(path, count)
    outcomes = try_all([b""], read, tmp_path).check()
    print(f"{make.__name__} of {count}: {dict(outcomes)}")


@pytest.mark.slow
def test_a_folder_of_many_images_is_read(tmp_path):
    """Each class is one image, linked: labels of all, pixels of none."""
    root, one = tmp_path / "images", io.BytesIO()
    Image.new("L", (4, 4)).save(one, "png")
    for name in "ab":
        (root / name).mkdir(parents=True)
        (tmp_path / name).write_bytes(one.getvalue())
    for name in map(bytes.decode, _names(MANY)):
        (root / name).hardlink_to(tmp_path / name[0])

    def read(_: bytes) -> None:
        options = Options(path=str(root), channels="grey", size=4)
        with image_folder.opened(options, None) as dataset:
            labels = dataset.labels("train")
            assert len(labels) == MANY

    try_all([b""], read, tmp_path).check()


@pytest.mark.slow
def test_a_header_of_many_tensors_is_read(tmp_path):
    tensor = {"dtype": "F32", "shape": [1]}
    header = {f"t{k}": tensor | {"data_offsets": [4 * k, 4 * k + 4]} for k in range(MANY)}
    header |= {"__metadata__": {"ness": '{"format": 1}'}}
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + bytes(4 * MANY)

    def read(data: bytes) -> None:
        path = tmp_path / "a.safetensors"
        path.write_bytes(data)
        assert len(tensor_files.stored(path, remedy="")) == MANY
        assert len(tensor_files.read(path, {}, remedy="")) == MANY

    try_all([whole], read, tmp_path).check()


@pytest.mark.slow
def test_a_document_of_a_million_entries_is_read(tmp_path):
    def read(data: bytes) -> None:
        (tmp_path / "a.json").write_bytes(data)
        assert len(files.read_json(tmp_path / "a.json", remedy="")) == MOST

    try_all([json.dumps(dict.fromkeys(map(str, range(MOST)))).encode()], read, tmp_path).check()


@pytest.mark.parametrize("text", ["a: [" + "1," * 10**6 + "]", "a:\n" + "  k: 1\n" * 10**6])
def test_settings_of_a_million_values_are_refused_before_all_are_read(text, monkeypatch):
    monkeypatch.setattr(yaml_files, "_MOST", 1000)
    with pytest.raises(SettingsError, match="more than 1000 values"):
        yaml_files.parse(text, place="here")


def test_a_study_of_a_million_rows_is_refused(tmp_path):
    values = list(range(1000))
    path = tmp_path / "study.yaml"
    path.write_text(f"grid: {{train.lr: {values}, seed: {values}}}\n")
    with pytest.raises(SettingsError, match="grid: 1000000 combinations; a study has 10000"):
        read_study(path)
