"""Pickles as data: arrays and plain values are read, everything else is refused."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest

from ness_cli.data.formats import safe_pickle
from ness_cli.errors import InputError

# a dtype of objects that is then told that it holds none
OBJECTS = (
    b"cnumpy\ndtype\n(X\x01\0\0\0O\x89\x88tR(K\x03X\x01\0\0\0|NNN"
    + b"J\xff\xff\xff\xff" * 2
    + b"K\0tb"
)
BYTES = b"\x8e" + (32).to_bytes(8, "little") + b"A" * 32
U1 = b"cnumpy\ndtype\n(X\x02\0\0\0u1\x89\x88tR"


def _load(program: bytes):
    return safe_pickle.load(io.BytesIO(program), "the file")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24, dtype=">i4").reshape(2, 3, 4).transpose(1, 2, 0),
        np.zeros((0, 3), np.float32),
        np.array(5, np.int64),
        np.array(["cat", "eel"]),
        np.array([b"cat", b"eel"]),
        np.array([True, False]),
    ],
)
def test_arrays_of_every_plain_kind(array, protocol):
    found = _load(pickle.dumps({"a": [array], "b": (array, b"")}, protocol))
    for each in (found["a"][0], found["b"][0]):
        assert each.dtype == array.dtype
        assert each.shape == array.shape
        assert np.array_equal(each, array)


def test_what_numpy_1_and_python_2_wrote():
    new = pickle.dumps({"data": np.arange(4, dtype=np.uint8), "n": np.int64(3)}, protocol=2)
    found = _load(new.replace(b"numpy._core", b"numpy.core"))
    assert found["data"].tolist() == [0, 1, 2, 3]
    assert found["n"] == 3
    old = (
        b"(dp0\nS'data'\ncnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I3\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'\\x00\\xffA'\ntbs."
    )
    assert _load(old)["data"].tolist() == [0, 255, 65]


def test_values_may_hold_themselves():
    loop: list = [np.arange(2)]
    loop.append((loop, np.arange(3)))
    found = _load(pickle.dumps(loop))
    assert found[1][0] is found
    assert found[1][1].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "program",
    [
        b"cnumpy\nndarray\n(K\x04\x85" + OBJECTS + BYTES + b"tR.",
        b"cnumpy._core.numeric\n_frombuffer\n(" + BYTES + OBJECTS + b"K\x04\x85X\x01\0\0\0CtR.",
        b"cnumpy._core.numeric\n_frombuffer\n(N}X\x0c\0\0\0__defaults__K\x05\x85stb.",
        b"cnumpy\ndtype\n(}X\x08\0\0\0__call__Nstb.",
        b"cnumpy._core.numeric\n_frombuffer\n(" + BYTES + U1 + b"K\x21\x85X\x01\0\0\0CtR.",
        # a bytearray that is made longer when an array lies on it
        b"\x96\x01\0\0\0\0\0\0\0Aq\x000cnumpy._core.numeric\n_frombuffer\n(h\0"
        + U1
        + b"K\x01\x85X\x01\0\0\0CtRh\0("
        + b"K\x01" * 99
        + b"e.",
        b"cnumpy\nndarray\n.",
        b"c_codecs\nencode\n(X\x01\0\0\0aX\x03\0\0\0zip\x86R.",
        pickle.dumps(np.zeros(2, np.complex128)),
        pickle.dumps(np.zeros(2, [("x", "u1"), ("y", "O")])),
        pickle.dumps(np.array([{}])),
        pickle.dumps(np.array(["2020"], "M8[Y]")),
    ],
)
def test_no_pickle_reaches_numpy(program):
    core = np._core if hasattr(np, "_core") else np.core
    with pytest.raises(InputError, match="the file"):
        _load(program)
    assert core.numeric._frombuffer.__defaults__ == (None,)


@pytest.mark.parametrize(
    "program", [b"\x8e" + (2**50).to_bytes(8, "little"), b"\x8a\xff", b"\x95" + b"\xff" * 7 + b"\0"]
)
def test_damage_is_no_lack_of_memory(program):
    with pytest.raises(InputError, match="cannot be read as a pickle"):
        _load(b"\x80\x04" + program)


@pytest.mark.parametrize("index", [1000, 10**7, 2**32 - 1])
@pytest.mark.parametrize("before", [b"", b"S'\\xff'\n0", b"T\1\0\0\0\xff0", b"cnumpy\ndtype\n0"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_pickle_cannot_ask_for_room_for_objects_that_it_does_not_have(index, before, as_text):
    put = b"p%d\n" % index if as_text else b"r" + index.to_bytes(4, "little")
    with pytest.raises(InputError, match=f"numbers an object {index} of"):
        _load(b"\x80\2" + before + b"N" + put + b".")


def test_numbers_with_gaps_are_read():
    # As pickletools.optimize left them in old versions: what nobody asks for is not remembered.
    program = b"\x80\2(" + b"K\1" * 1500 + b"l" + b"r" + (1400).to_bytes(4, "little") + b"."
    assert _load(program) == [1] * 1500


@pytest.mark.parametrize("protocol", range(6))
def test_no_pickle_is_cut_short_anywhere_unnoticed(protocol):
    whole = pickle.dumps({"a": [np.arange(3), "text", b"bytes", 10**30, 1.5], "b": None}, protocol)
    assert _load(whole)["b"] is None
    for end in range(len(whole)):
        with pytest.raises(InputError, match="cannot be read as a pickle"):
            _load(whole[:end])


def test_a_lack_of_memory_is_no_damage(monkeypatch):
    monkeypatch.setattr(
        safe_pickle._Reader, "find_class", lambda *_: (_ for _ in ()).throw(MemoryError)
    )
    with pytest.raises(MemoryError):
        _load(pickle.dumps(np.arange(3)))
