"""One image file to uint8 pixels, whatever Pillow reads.

Of an animation the first frame counts. Transparent pixels are laid over white, as a browser shows
them. An EXIF orientation is applied. 16-bit grey values are scaled to 8 bits (divided by 257,
rounded); of 16-bit colour Pillow reads the upper byte, which does not tell which of its colours is
transparent: it is refused then. Palettes become colour, colour becomes grey
by luma (ITU-R 601). Floating point pixels are refused: they have no known range.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from ness_cli.errors import InputError, UnreadableError

# Formats whose images Pillow has another program draw, which would run what is in the file.
_PROGRAMS = ("EPS", "WMF")
_GREY_MODES = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
_ALPHA_MODES = {"LA", "PA", "RGBA", "RGBa", "La"}
_TURNS = {  # values of the EXIF tag Orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What pixels of 2 and of 4 bits are multiplied by to fill 8.
_SMALL_GREYS = {"L;2": 85, "L;4": 17}
_ORIENTATION = 0x0112
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}


def has_image_suffix(name: str) -> bool:
    """Return whether a file's ending belongs to a format that Pillow reads."""
    suffix = PurePosixPath(name).suffix.lower()
    return Image.registered_extensions().get(suffix) in _formats()


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that are read, by Pillow's names for them, the common ones first."""
    Image.init()
    return tuple(name for name in Image.ID if name in Image.OPEN and name not in _PROGRAMS)


def _opened(file: BinaryIO) -> ImageFile.ImageFile:
    return Image.open(file, formats=_formats())


@contextlib.contextmanager
def pillow_warnings() -> Iterator[None]:
    """Turn Pillow's warning about decompression bombs into an error inside the block."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        # Damaged EXIF blocks are common in photographs and say nothing about the pixels.
        warnings.filterwarnings("ignore", ".*EXIF", UserWarning)
        yield


def is_grey_mode(image: Image.Image) -> bool:
    """Return whether an opened image is stored as grey."""
    return image.mode in _GREY_MODES


def is_grey(file: BinaryIO, name: str) -> bool:
    """Return whether an image is stored as grey, read from its header alone.

    Args:
        file: The image file.
        name: What messages call it.

    Raises:
        UnreadableError: If it is not an image.
    """
    with _errors(name), _opened(file) as image:
        return is_grey_mode(image)


def examined(file: BinaryIO, name: str) -> tuple[str, NDArray[np.uint8]]:
    """Return the mode that an image is stored in, and its pixels in colour, uint8 ``[3, h, w]``.

    Args:
        file: The image file.
        name: What messages call it.

    Raises:
        UnreadableError: As in ``Form.of_file``.
    """
    with _errors(name), _opened(file) as image:
        mode = image.mode
    file.seek(0)
    return mode, Form(channels=3, size=None).of_file(file, name)


@dataclass(frozen=True)
class Form:
    """What every image of a data set is brought to.

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: Height and width; ``None`` leaves them alone.
        fit: ``bilinear`` or ``lanczos`` resizes (antialiased), ``pad`` puts black around.
    """

    channels: int
    size: tuple[int, int] | None
    fit: str = "bilinear"

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``; there must be a size."""
        assert self.size is not None
        return (self.channels, *self.size)

    def of_file(self, file: BinaryIO, name: str) -> NDArray[np.uint8]:
        """Return the pixels of an image file, uint8 ``[channels, height, width]``.

        Args:
            file: The image file.
            name: What messages call it.

        Raises:
            UnreadableError: If it is not an image, is cut short or damaged, too large for Pillow's
                limit against decompression bombs, or its pixels have no known range.
            InputError: If it is larger than the size that it is to be padded to.
        """
        with _errors(name), _opened(file) as opened:
            stored = opened.tile[0][3] if opened.format == "PNG" and opened.tile else ""
            opened.load()
            _correct_transparency(opened, stored, name)
            return self.of_image(opened, name)

    def of_array(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return one image brought to this form.

        Args:
            pixels: uint8 ``[1 or 3, height, width]``.

        Raises:
            InputError: If it is larger than the size that it is to be padded to.
        """
        array = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
        return self.of_image(Image.fromarray(np.ascontiguousarray(array)), "an image")

    def of_image(self, image: Image.Image, name: str) -> NDArray[np.uint8]:
        """Return the pixels of an opened image, uint8 ``[channels, height, width]``.

        Raises:
            InputError: If its pixels have no known range, or it is too large to be padded.
        """
        mode = "L" if self.channels == 1 else "RGB"
        image = _upright(image)
        if image.mode != mode or "transparency" in image.info:
            image = _flat(image, name).convert(mode)
        if self.size is not None and image.size != self.size[::-1]:
            image = self._resized(image, self.size, name)
        pixels = np.asarray(image)
        return pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)

    def _resized(self, image: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
        height, width = size
        if self.fit != "pad":
            return image.resize((width, height), _FILTERS[self.fit])
        above, left = (height - image.height) // 2, (width - image.width) // 2
        if min(above, left) < 0:
            raise InputError(
                f"{name} is {image.height} x {image.width}, too large to be padded to"
                f" {height} x {width}",
                "raise data.size, or set data.fit=bilinear",
            )
        canvas = Image.new(image.mode, (width, height))
        canvas.paste(image, (left, above))
        return canvas


def _upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF block says, if it has one that can be read.

    Pillow's ``exif_transpose`` writes the block anew, and fails where another entry is damaged.
    """
    if "exif" not in image.info:
        return image
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except MemoryError:
        raise
    # A damaged block says nothing about the pixels, and makes Pillow raise nearly anything.
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def _correct_transparency(image: Image.Image, stored: object, name: str) -> None:
    """Express the transparent value of a PNG as its pixels are, which Pillow does not.

    Args:
        image: The image, read.
        stored: Pillow's name for the pixels in the file.
        name: What messages call it.
    """
    if "transparency" not in image.info:
        return
    if stored == "RGB;16B":
        raise UnreadableError(
            f"{name} has 16-bit colours, one of them transparent", "convert it to 8 bits"
        )
    if stored in _SMALL_GREYS:
        image.info["transparency"] *= _SMALL_GREYS[str(stored)]


def _flat(image: Image.Image, name: str) -> Image.Image:
    """Return the image in 8 bits and without transparency."""
    if image.mode == "F":
        raise UnreadableError(f"{name} has floating point pixels", "convert it to 8 or 16 bits")
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.size and not 0 <= wide.min() <= wide.max() <= 0xFFFF:
            raise UnreadableError(f"{name} has values beyond 16 bits", "convert it to 8 or 16 bits")
        if isinstance(clear := image.info.get("transparency"), int):
            wide[wide == clear] = 0xFFFF
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8))
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image


@contextlib.contextmanager
def _errors(name: str) -> Iterator[None]:
    try:
        yield
    except (InputError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableError(f"{name} is too large: {error}", "make the image smaller") from error
    # Pillow's plugins raise nearly anything (SyntaxError, struct.error, IndexError) on damage.
    except Exception as error:
        reason = str(error).partition("<_io")[0].strip() or type(error).__name__
        raise UnreadableError(
            f"{name} cannot be read as an image: {reason}", "repair or remove it"
        ) from error
