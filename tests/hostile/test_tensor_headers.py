"""Headers of safetensors files that lie: damaged in one line, before memory is asked for."""

from __future__ import annotations

import json
import math

import pytest
import torch

from ness_cli import tensor_files
from ness_cli.errors import DamagedError

META = {"__metadata__": {"ness": '{"format": 1}'}}
TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def _file(path, header: object, data: bytes = bytes(8), length: int | None = None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


HEADERS = {
    "no object": [1],
    "no metadata": {"a": TENSOR},
    "metadata is a list": {"__metadata__": ["ness"], "a": TENSOR},
    "identity is no JSON": {"__metadata__": {"ness": "x"}, "a": TENSOR},
    "identity is a list": {"__metadata__": {"ness": "[1]"}, "a": TENSOR},
    "identity is deep": {"__metadata__": {"ness": "[" * 10**5}, "a": TENSOR},
    "deep": b"[" * 10**5,
    "no text": b"\xff\xfe",
    "not a number": b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, 8]}}',
    "absurd shape": META | {"a": TENSOR | {"shape": [2**40, 2**40]}},
    "negative shape": META | {"a": TENSOR | {"shape": [-2, -1]}},
    "shape is text": META | {"a": TENSOR | {"shape": "22"}},
    "shape is too small": META | {"a": TENSOR | {"shape": [1]}},
    "unknown type": META | {"a": TENSOR | {"dtype": "F99"}},
    "offsets overlap": META | {"a": TENSOR, "b": TENSOR},
    "offsets leave a hole": META | {"a": TENSOR | {"shape": [1], "data_offsets": [4, 8]}},
    "offsets beyond the end": META | {"a": TENSOR | {"shape": [2**30], "data_offsets": [0, 2**32]}},
    "offsets run back": META | {"a": TENSOR | {"data_offsets": [8, 0]}},
    "offsets are three": META | {"a": TENSOR | {"data_offsets": [0, 4, 8]}},
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_lies_is_damage(what, tmp_path):
    path = _file(tmp_path / "a.safetensors", HEADERS[what])
    with pytest.raises(DamagedError, match=r"a.safetensors is damaged") as error:
        tensor_files.read(path, {}, remedy="make it")
    assert error.value.remedy == "make it"
    try:  # sizes alone are read without the data: what it says it has is what it says
        sizes = tensor_files.stored(path, remedy="")
    except DamagedError:
        return
    assert all(isinstance(each.num_bytes, int) for each in sizes)


@pytest.mark.parametrize("length", [0, 7, 2**20, 2**31, 2**62, 2**64 - 1])
def test_a_length_that_is_not_there_asks_for_no_memory(length, tmp_path):
    path = _file(tmp_path / "a.safetensors", META | {"a": TENSOR}, length=length)
    for read in (tensor_files.stored, tensor_files.read_with_identity):
        with pytest.raises(DamagedError):
            read(path, remedy="")


@pytest.mark.parametrize("size", range(0, 60, 7))
def test_a_file_of_a_few_bytes_is_damaged(size, tmp_path):
    path = _file(tmp_path / "a.safetensors", META | {"a": TENSOR})
    path.write_bytes(path.read_bytes()[:size])
    for read in (tensor_files.stored, tensor_files.read_with_identity):
        with pytest.raises(DamagedError):
            read(path, remedy="")


def test_values_that_are_not_finite_are_values(tmp_path):
    """NaN in a tensor is what the file holds; it is for who uses it to say so."""
    path = tmp_path / "a.safetensors"
    tensor_files.write(path, {"a": torch.tensor([math.nan, math.inf])}, {})
    assert tensor_files.read(path, {}, remedy="")["a"].isnan().tolist() == [True, False]
