from __future__ import annotations

import contextlib
import json
import tracemalloc

import pytest
import torch
from safetensors.torch import save

from ness_cli import tensor_files
from ness_cli.errors import DamagedError, InputError
from ness_cli.hashing import sha256_of_file

WHAT = {"kind": "model", "run": "r", "task": 1}


def test_what_is_written_is_read_back_with_its_identity(tmp_path):
    path = tmp_path / "a.safetensors"
    shared = torch.arange(6.0).view(2, 3)
    tensors = {"a": shared, "b": shared.T, "same": shared, "empty": torch.zeros(4, 0)}
    sha256 = tensor_files.write(path, tensors, WHAT)
    got = tensor_files.read(path, WHAT, remedy="", sha256=sha256)
    assert got.keys() == tensors.keys()
    for key, value in tensors.items():
        assert torch.equal(got[key], value)
        assert got[key].is_contiguous()
    assert sha256 == sha256_of_file(path)


def test_the_same_tensors_make_the_same_bytes_in_any_order(tmp_path):
    a, b = torch.ones(2), torch.zeros(3)
    one = tensor_files.write(tmp_path / "1", {"a": a, "b": b}, WHAT)
    two = tensor_files.write(tmp_path / "2", {"b": b, "a": a}, dict(reversed(WHAT.items())))
    assert one == two


def test_a_file_of_something_else_is_refused_before_its_content_is_judged(tmp_path):
    path = tmp_path / "a"
    tensor_files.write(path, {"a": torch.ones(2)}, WHAT)
    with pytest.raises(InputError, match="its task is 1, not 2"):
        tensor_files.read(path, {**WHAT, "task": 2}, remedy="", sha256="0")


@pytest.mark.parametrize("keep", [0, 4, 20, -1])
def test_a_file_cut_short_is_damaged(tmp_path, keep):
    path = tmp_path / "a"
    tensor_files.write(path, {"a": torch.ones(20)}, WHAT)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DamagedError, match="is damaged"):
        tensor_files.read(path, WHAT, remedy="")


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a"
    sha256 = tensor_files.write(path, {"a": torch.ones(20)}, WHAT)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match="not what was written"):
        tensor_files.read(path, WHAT, remedy="", sha256=sha256)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a"
    tensor_files.write(path, {"a": torch.ones(2)}, WHAT)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        tensor_files.write(path, {"a": torch.zeros(2)}, WHAT)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_bytes_are_those_of_the_library(tmp_path):
    types = (torch.int64, torch.float64, torch.float32, torch.int32, torch.bfloat16)
    types += (torch.float16, torch.int16, torch.int8, torch.uint8, torch.bool)
    for shape in ((), (3,), (0, 4), (2, 1, 5)):
        tensors = {
            f'{name}."{i}': torch.ones(shape, dtype=t)
            for i, t in enumerate(types)
            for name in ("z", "a", "größe")
        }
        tensor_files.write(tmp_path / "a", tensors, {**WHAT, "name": "größe"})
        told = {"format": tensor_files.FORMAT, **WHAT, "name": "größe"}
        header = {"ness": json.dumps(told, sort_keys=True)}
        assert (tmp_path / "a").read_bytes() == save(tensors, metadata=header)
    tensor_files.write(tmp_path / "a", {}, WHAT)
    assert tensor_files.read(tmp_path / "a", WHAT, remedy="") == {}


def test_no_byte_of_a_sealed_file_can_change_unseen(tmp_path):
    path, tensors = tmp_path / "a", {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.uint8)}
    tensor_files.write(path, tensors, {**WHAT, "state": {"lr": 0.1}}, is_sealed=True)
    found, about = tensor_files.read_with_identity(path, remedy="")
    assert about["state"] == {"lr": 0.1}
    assert "seal" not in about
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with contextlib.suppress(DamagedError, InputError):
            other, what = tensor_files.read_with_identity(path, remedy="")
            # The seal's own name, and space that means nothing.
            assert {key: what.get(key) for key in about} == about
            assert all(torch.equal(other[name], found[name]) for name in found)


def test_writing_holds_no_copy_of_the_tensors(tmp_path):
    tensors = {name: torch.zeros(2**20) for name in "abcd"}
    tracemalloc.start()
    try:
        tensor_files.write(tmp_path / "a", tensors, WHAT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20
