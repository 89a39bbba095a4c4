"""Archives, pickles and images made to harm: nothing runs, nothing is asked of memory in vain."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ness_cli.data.formats import archive, image, mnist_and_svhn, safe_pickle
from ness_cli.data.formats.archive import opened_storages
from ness_cli.data.formats.labels import whole_numbers
from ness_cli.data.sources.mini_imagenet import _images
from ness_cli.errors import InputError, SystemRefusedError, UnreadableError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) print\nshowpage\n"


def _member(kind: str, path, name: str, size: int):
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr(name, bytes(size))
    else:
        with tarfile.open(path, "w:gz") as file:
            info = tarfile.TarInfo(name)
            info.size = size
            file.addfile(info, io.BytesIO(bytes(size)))
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_file_that_unpacks_to_more_than_any_image_is_not_unpacked(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_LARGEST", 10_000)
    for size, is_read in ((10_000, True), (10_001, False)):
        path = _member(kind, tmp_path / f"{size}.{kind}", "a/1.png", size)
        with opened_storages([path]) as (storage,):
            if is_read:
                assert len(storage.open("a/1.png").read()) == size
            else:
                with pytest.raises(UnreadableError, match="would unpack to 10001 bytes"):
                    storage.open("a/1.png")


def test_a_member_that_asks_for_all_memory_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a/1.png", b"x")

    def out_of_memory(*_):  # as lzma says it of a dictionary of gigabytes
        raise MemoryError

    monkeypatch.setattr("zipfile.LZMADecompressor", out_of_memory)
    with (
        opened_storages([path]) as (storage,),
        pytest.raises(SystemRefusedError, match=r"1\.png asks for more memory than there is"),
    ):
        storage.open("a/1.png")


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["../a/1.png", "a/../../1.png", "/../1.png"])
def test_a_name_that_leads_out_is_refused(kind, name, tmp_path):
    path = _member(kind, tmp_path / "x", name, 3)
    with pytest.raises(InputError, match="leads out of the archive"), opened_storages([path]):
        pass


def test_a_member_without_a_name_is_left_out(tmp_path):
    path = _member("zip", tmp_path / "x", "a", 3)
    whole = path.read_bytes().replace(b"a", b"\0")  # zipfile cuts names at a NUL
    path.write_bytes(whole)
    with opened_storages([path]) as (storage,):
        assert storage.names() == []


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_absolute_name_stays_inside(kind, tmp_path):
    with opened_storages([_member(kind, tmp_path / "x", "/etc/passwd", 3)]) as (storage,):
        assert storage.names() == ["etc/passwd"]
        assert storage.open("etc/passwd").read() == bytes(3)


@pytest.mark.slow
def test_a_hundred_thousand_files_are_listed(tmp_path):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as file:
        for number in range(100_000):
            file.writestr(f"a/{number}.png", b"")
    with opened_storages([path]) as (storage,):
        assert len(storage.names()) == 100_000


def test_a_packed_file_is_not_unpacked_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist_and_svhn, "_LARGEST", 10_000)
    monkeypatch.setattr(mnist_and_svhn, "_CHUNK", 1000)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(10**6)))
    with pytest.raises(InputError, match="unpacks to more than 10000 bytes"):
        mnist_and_svhn._read_idx(path)


@pytest.mark.parametrize("name", ["a.eps", "a.ps", "a.wmf"])
def test_formats_that_another_program_draws_are_no_images(name):
    assert not image.has_image_suffix(name)
    assert image.has_image_suffix("a.png")


def test_what_is_in_a_file_decides_not_its_name(monkeypatch):
    """Ghostscript would run what stands in an EPS file, whatever the file is called."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("a program runs"))
    with pytest.raises(UnreadableError, match=r"a\.png cannot be read as an image"):
        image.Form(3, None).of_file(io.BytesIO(EPS), "a.png")


def test_dimensions_beyond_all_memory_are_refused_by_the_header():
    file = io.BytesIO()
    Image.new("L", (2, 2)).save(file, "png")
    data = bytearray(file.getvalue())
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(UnreadableError, match="too large"), image.pillow_warnings():
        image.Form(1, (8, 8)).of_file(io.BytesIO(bytes(data)), "a.png")


# -- small pickles that ask for much ---------------------------------------------------------------


def _nested(depth: int) -> list:
    found: list = [1, 2]
    for _ in range(depth):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    "labels",
    [_nested(60), ["x" * 1000] * 9, [[1] * 10_000] * 10_000, [{}], [[[1]]], [b"1"]],
    ids=["doubled", "texts", "lists", "dict", "deep", "bytes"],
)
def test_labels_are_numbers_before_they_become_an_array(labels, monkeypatch):
    monkeypatch.setattr("ness_cli.data.formats.labels._MOST", 100_000)
    found = safe_pickle.load(io.BytesIO(pickle.dumps(labels)), "the file")
    with pytest.raises(InputError, match="labels are"):
        whole_numbers(found, "labels")


def test_labels_in_any_usual_form():
    for labels in ([1, 2], (1, 2), [1.0, 2.0], [[1], [2]], [np.array(1), np.array(2)]):
        assert whole_numbers(labels, "labels", matrix=True).tolist() == [1, 2]


def test_one_array_many_times_is_no_list_of_images(tmp_path):
    one = np.zeros((4, 4, 3), np.uint8)
    assert _images([one, one.copy()], tmp_path).shape == (2, 3, 4, 4)
    for images in ([one] * 3, [[one] * 3], ["x"], 3):
        with pytest.raises(InputError, match="images"):
            _images(images, tmp_path)


def test_bytes_of_one_text_are_made_once():
    # "abc" is remembered, and its bytes are asked for a thousand times.
    call = b"c_codecs\nencode\n(h\0X\x06\0\0\0latin1tR"
    program = b"\x80\2(X\x03\0\0\0abcq\0" + call * 1000 + b"l."
    found = safe_pickle.load(io.BytesIO(program), "the file")
    assert found[1:] == [b"abc"] * 1000
    assert len({id(each) for each in found[1:]}) == 1


def test_a_long_text_of_a_fixed_length_is_not_copied_by_name():
    text = np.array("x" * 300)[()]
    with pytest.raises(InputError, match="without end"):
        safe_pickle.load(io.BytesIO(pickle.dumps([text] * 3)), "the file")
    assert safe_pickle.load(io.BytesIO(pickle.dumps(np.str_("ant"))), "the file") == "ant"
