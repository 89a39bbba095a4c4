"""What all pictures share: how they look, and files that depend on nothing but what is drawn.

matplotlib is imported when something is drawn: it is not installed everywhere, and takes a moment.
"""

from __future__ import annotations

import importlib.util
import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ness_cli.errors import SettingsError
from ness_cli.files import write_bytes
from ness_cli.words import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    AnyFigure = Figure | SubFigure

ENDINGS = (".png", ".svg", ".pdf")
INSTALL = "pip install 'ness-cli[plots]'"
INK, FAINT, PAPER = "#24292f", "#c9d1d9", "#ffffff"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8629d", "#a67c00", "#6b7785")
"""Apart for every kind of colour vision (after Okabe and Ito 2008), and dark enough for lines."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
_LETTER = 0.66  # of a point: what a bold letter is wide, on average
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.dpi": 100,
    "figure.titlesize": 10,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "ness",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8,
}
# Left out: when, and by which version, a file was made.
_METADATA: dict[str, dict[str, None]] = {
    ".png": {"Software": None},
    ".svg": {"Creator": None, "Date": None, "Format": None, "Type": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Picture(Protocol):
    """Something that can be drawn."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height, inches."""

    def draw(self, figure: AnyFigure) -> None:
        """Draw it into an empty figure."""


def is_possible() -> bool:
    """Return whether pictures can be drawn here: matplotlib is an optional part."""
    return importlib.util.find_spec("matplotlib") is not None


def check_plot(path: Path) -> None:
    """Refuse a picture that could not be drawn, before anything is measured for it.

    Raises:
        SettingsError: If the ending is none of png, svg, pdf, or matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"--plot: {path} does not end in {', '.join(ENDINGS)}")
    if not is_possible():
        raise SettingsError("--plot: matplotlib is not installed", f"run: {INSTALL}")


def save(picture: Picture, path: Path) -> None:
    """Draw a picture into a file, whose ending decides the format.

    Raises:
        OSError: If the system refuses.
    """
    write_bytes(path, render(picture, path.suffix.lower()))


def render(picture: Picture, ending: str, *, dpi: int = 160, is_transparent: bool = False) -> bytes:
    """Return the file of a picture; what is equal when drawn is equal in all bytes.

    Args:
        picture: What to draw.
        ending: One of ``ENDINGS``.
        dpi: Points per inch of a ``.png``.
        is_transparent: Leave the paper out.
    """
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with _house_style():
        paper = "none" if is_transparent else PAPER
        figure = Figure(figsize=picture.size, layout="constrained", facecolor=paper)
        picture.draw(figure)
        figure.savefig(file, format=ending[1:], dpi=dpi, metadata=_METADATA[ending])
    return file.getvalue()


def inline_svg(picture: Picture, name: str, description: str) -> str:
    """Return a picture as an element of a page, whose style sheet says how text and paper look.

    Args:
        picture: What to draw.
        name: Begins every identifier in it: no two pictures of a page may have the same.
        description: For those who do not see it; markup already.
    """
    text = render(picture, ".svg", is_transparent=True).decode()
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub("<[^>]*>", lambda tag: _at_home(tag[0], name), text)
    return text.replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1).strip()


def _at_home(tag: str, name: str) -> str:
    """Return a tag of a picture with identifiers and colours of the page; words are between tags.

    Args:
        tag: From its bracket to the other: matplotlib spells out those of words.
        name: Begins every identifier.
    """
    tag = re.sub(r'(\bid="|"#|url\(#)', rf"\g<1>{name}-", tag)
    return tag.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")


@contextmanager
def _house_style() -> Iterator[None]:
    """Draw as we do and not as somebody's matplotlibrc says; no word on signs a font has not."""
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def or_nan(value: float | None) -> float:
    """Return a number, and not a number for what is not known: it leaves a gap."""
    return math.nan if value is None else value


def label(text: str, length: int = 60) -> str:
    """Return a name as it is written into a picture: one line, not too long, no control signs."""
    line = " ".join(printable(text).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def layer_label(name: str, length: int) -> str:
    """Return a layer's name as it is written into a picture: the end of a long one.

    Ends tell layers apart: ``encoder.layers.3.mlp.fc1``.
    """
    short = label(name, 1000)
    return short if len(short) <= length else f"…{short[1 - length :]}"


def heading(axes: Axes, *lines: str, pad: float = 6.0) -> None:
    """Write what the axes show above them, no longer than they are wide.

    Args:
        axes: The axes.
        lines: What they show, and where that must be said, of whom; empty ones are left out.
        pad: Points between.
    """
    inches = axes.get_position().width * axes.figure.bbox.width / axes.figure.dpi
    most = max(12, int(72 * inches / (_LETTER * _STYLE["axes.titlesize"])))
    text = "\n".join(label(line, most) for line in lines if line)
    axes.set_title(text, fontweight="bold", pad=pad, linespacing=1.4)


def say_nothing_is_there(axes: Axes, text: str) -> None:
    """Write into empty axes why they are empty."""
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])
