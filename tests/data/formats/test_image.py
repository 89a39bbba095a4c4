"""One image file to pixels, in the corners of its format."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ness_cli.data.formats import image as pixels
from ness_cli.errors import InputError


def _read(data: bytes, channels: int = 1) -> np.ndarray:
    with pixels.pillow_warnings():
        return pixels.Form(channels, None).of_file(io.BytesIO(data), "the image")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, depth: int, colour: int, row: bytes, transparent: tuple[int, ...]) -> bytes:
    """Return a PNG of one row with a transparent value."""
    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    clear = struct.pack(f">{len(transparent)}H", *transparent)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + (_chunk(b"tRNS", clear) if transparent else b"")
        + _chunk(b"IDAT", zlib.compress(b"\0" + row))
        + _chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "expected"),
    [
        (16, struct.pack(">3H", 0, 25700, 65535), (), [0, 100, 255]),
        (16, struct.pack(">3H", 0, 25700, 65535), (0,), [255, 100, 255]),
        (16, struct.pack(">3H", 0, 25700, 65535), (25700,), [0, 255, 255]),
        (8, bytes([0, 100, 255]), (100,), [0, 255, 255]),
        (4, b"\x05\xf0", (5,), [0, 255, 255]),
        (2, b"\x1c", (1,), [0, 255, 255]),
        (1, b"\x40", (0,), [255, 255, 255]),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_grey_is_laid_over_white(depth, row, transparent, expected, channels):
    found = _read(_png(3, depth, 0, row, transparent), channels)
    assert found[:, 0].tolist() == [expected] * channels


def test_transparent_colours():
    assert _read(_png(2, 8, 2, b"\1\2\3\4\4\4", (1, 2, 3)), 3)[:, 0, 0].tolist() == [255] * 3
    wide = struct.pack(">6H", 0x1234, 0x1234, 0x1234, 0x3400, 0x3400, 0x3400)
    assert _read(_png(2, 16, 2, wide, ()), 3)[:, 0].tolist() == [[0x12, 0x34]] * 3
    for value in (0x1234, 0):
        with pytest.raises(InputError, match="the image has 16-bit colours"):
            _read(_png(2, 16, 2, wide, (value,) * 3), 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0garbagegarbage", b"Exif\0\0II", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f"],
)
def test_a_damaged_exif_block_says_nothing_about_the_pixels(kind, exif):
    file = io.BytesIO()
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(image).save(file, kind, exif=exif, lossless=True)
    assert np.array_equal(_read(file.getvalue())[0], image)


def test_an_orientation_beside_a_damaged_entry_is_applied():
    """The copyright, a text, is said to be a float: Pillow reads the block and cannot write it."""
    entries = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack("<HHIf", 33432, 11, 1, 1.5)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + bytes(4)
    file, image = io.BytesIO(), np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(image).save(file, "PNG", exif=exif)
    assert np.array_equal(_read(file.getvalue())[0], np.rot90(image, -1))


@pytest.mark.parametrize("orientation", range(10))
def test_an_exif_orientation_is_applied(orientation):
    from PIL import ImageOps

    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(image).save(file, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue()))))
    assert np.array_equal(_read(file.getvalue())[0], expected)
