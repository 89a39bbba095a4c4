from __future__ import annotations

import hashlib
import io

import pytest

from ness_cli import hashing

TEXT = "naïve"


def test_a_text_and_a_file_of_its_bytes_have_one_hash(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(TEXT.encode())
    expected = hashlib.sha256(TEXT.encode()).hexdigest()
    assert hashing.sha256_of_text(TEXT) == hashing.sha256_of_file(path) == expected
    assert hashing.md5_of_file(path) == hashlib.md5(TEXT.encode()).hexdigest()


@pytest.mark.parametrize("size", [0, 7, 8, 20])
def test_a_file_of_many_chunks_is_never_held_whole(monkeypatch, size):
    monkeypatch.setattr(hashing, "_CHUNK", 8)
    asked = []

    class File(io.BytesIO):
        def read(self, size=-1, /):
            asked.append(size)
            return super().read(size)

    data = bytes(range(size))
    assert hashing.sha256_of_stream(File(data)) == hashlib.sha256(data).hexdigest()
    assert set(asked) == {8}
