"""Every picture on everything that a run may have measured, or not."""

from __future__ import annotations

import math
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from html.parser import HTMLParser

import pytest

from ness_cli.errors import SettingsError
from ness_cli.plots import picture as module
from ness_cli.plots.acc_against_bwt import AccAgainstBwt, Result
from ness_cli.plots.accuracy_matrix import accuracy_matrix
from ness_cli.plots.accuracy_over_tasks import accuracy_over_tasks
from ness_cli.plots.change_per_task import change_per_task
from ness_cli.plots.heat_map import HeatMap
from ness_cli.plots.picture import check_plot, inline_svg, label, render, save
from ness_cli.plots.progress import Progress
from ness_cli.plots.room import room
from ness_cli.plots.spectra import Spectra, evenly
from ness_cli.plots.task_lines import TaskLine
from ness_cli.plots.training_curves import TrainingCurves

NAN = math.nan
NAME = "<script>alert(1)</script> $\\frac{x$ a\nb\x1b[31m & 'ness' \"日本\" " + "long" * 30
EPOCHS = [{"train_loss": 2.0, "valid_loss": 2.1, "valid_accuracy": 50.0}, {"train_loss": 1.0}]


def _triangle(size):
    return [[90.0 - i for i in range(t)] for t in range(1, size + 1)]


def _spectrum(dim, tau=1.0):
    return {"fc": {"sigma": [float(i) for i in range(dim)], "tau": tau}}


PICTURES = {
    "matrix": accuracy_matrix(NAME, _triangle(10), [NAME] * 10),
    "matrix of 20 tasks": accuracy_matrix("run", _triangle(20)),
    "matrix of one task": accuracy_matrix("run", [[97.5]]),
    "matrix with holes": accuracy_matrix("run", [[90.0], None, [None, NAN, 80.0]]),
    "matrix of nothing": accuracy_matrix("run", []),
    "matrix not measured": accuracy_matrix("run", [None, None]),
    "accuracies": accuracy_over_tasks([TaskLine(NAME, [90.0, 80.0], [1.0, 2.0])] * 9),
    "accuracies of 20 tasks": accuracy_over_tasks([TaskLine("run", [90.0] * 20)]),
    "accuracies of one task": accuracy_over_tasks([TaskLine("run", [90.0])]),
    "accuracies with holes": accuracy_over_tasks([TaskLine("run", [None, NAN, 90.0], [None] * 3)]),
    "accuracies of nothing": accuracy_over_tasks([]),
    "changes": change_per_task([TaskLine("a", [-30.0, 0.0], [5.0, 0.0]), TaskLine("b", [None])]),
    "experiments": AccAgainstBwt([Result(NAME, 90.0, -1.0, 0.5, 0.2), Result("b", 80.0, -9.0)]),
    "published": AccAgainstBwt([Result("paper", 90.0, -1.0, 0.5, None, is_published=True)]),
    "experiments of one task": AccAgainstBwt([Result("a", 90.0, None), Result("b", None, None)]),
    "experiments not finite": AccAgainstBwt([Result("a", NAN, 1.0), Result("b", 1.0, -math.inf)]),
    "spectra": Spectra(NAME, {t: {**_spectrum(500), NAME: _spectrum(3)["fc"]} for t in (1, 2, 9)}),
    "spectrum of zeros": Spectra("run", {1: {"fc": {"sigma": [0.0, 0.0], "tau": 0.0}}}),
    "spectrum of one direction": Spectra("run", {1: _spectrum(1, tau=math.inf)}),
    "spectra of other layers": Spectra("run", {1: _spectrum(3), 2: {"b": _spectrum(4, NAN)["fc"]}}),
    "room": room(NAME, {1: {NAME: 100.0, "fc": 0.0}, 2: {"fc": 0.0}}),
    "room in 60 layers": room(
        "run", {t: {f"layer{i}": 1.0 * i for i in range(60)} for t in (1, 2)}
    ),
    "room of nothing": room("run", {}),
    "curves": TrainingCurves(NAME, {1: EPOCHS, 2: EPOCHS}),
    "curves of 40 tasks": TrainingCurves(
        "run", {t: [{"train_loss": 1.0}] * 3 for t in range(1, 41)}
    ),
    "curves of one epoch": TrainingCurves("run", {1: [{"train_loss": 1.0, "valid_loss": None}]}),
    "curves not finite": TrainingCurves(
        "run", {1: [{"train_loss": NAN}, {"train_loss": None}], 2: []}
    ),
    "curves of nothing": TrainingCurves("run", {}),
}
PICTURES["progress"] = Progress(NAME, [PICTURES[n] for n in ("matrix", "accuracies", "curves")])


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_can_be_drawn_of_anything(name):
    tree = ET.fromstring(render(PICTURES[name], ".svg"))
    assert not list(tree.iter("{http://www.w3.org/2000/svg}script"))
    shown = " ".join(
        "".join(each.itertext()) for each in tree.iter("{http://www.w3.org/2000/svg}text")
    )
    assert "nan" not in shown.lower()
    assert "mathdefault" not in shown


@pytest.mark.parametrize(
    ("name", "ending", "magic"),
    [
        *((name, ".svg", b"<?xml") for name in ("changes", "room", "published", "curves")),
        ("changes", ".png", b"\x89PNG"),
        ("changes", ".pdf", b"%PDF"),
    ],
)
def test_the_same_results_give_the_same_bytes(name, ending, magic):
    first, second = (render(PICTURES[name], ending) for _ in range(2))
    assert first == second
    assert first.startswith(magic)


def test_bytes_do_not_depend_on_somebodys_own_style():
    import matplotlib as mpl

    before = render(PICTURES["changes"], ".svg")
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 20, "axes.facecolor": "pink"}):
        assert render(PICTURES["changes"], ".svg") == before
        assert mpl.rcParams["lines.linewidth"] == 9


def test_names_are_written_as_they_are():
    svg = render(PICTURES["experiments"], ".svg").decode()
    shown = [e.text or "" for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert label(NAME) in shown
    assert label(NAME).startswith(r"<script>alert(1)</script> $\frac{x$ a\nb\x1b[31m")
    assert label("日本") == "日本"
    assert label("a" * 61) == "a" * 59 + "…"


def test_numbers_stand_in_their_cells():
    svg = ET.fromstring(render(accuracy_matrix("run", [[97.5], [88.25, 100.0]]), ".svg"))
    texts = [e.text for e in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"97.5", "88.2", "100"} <= set(texts)


def test_ticks_are_whole_tasks():
    for count in (1, 10, 11, 37):
        svg = ET.fromstring(render(accuracy_over_tasks([TaskLine("r", [50.0] * count)]), ".svg"))
        axis = next(e for e in svg.iter() if e.get("id") == "matplotlib.axis_1")
        ticks = [e.text for e in axis.iter("{http://www.w3.org/2000/svg}text")][:-1]
        assert all(tick.isdecimal() and 1 <= int(tick) <= count for tick in ticks), ticks


class _Identifiers(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found: list[str] = []
        self.used: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key == "id":
                self.found.append(value)
            if key.endswith("href"):
                self.used.add(value.removeprefix("#"))
            if "url(#" in value:
                self.used.add(value.partition("url(#")[2].partition(")")[0])


def test_pictures_of_one_page_share_no_identifier_and_find_their_own():
    pair = [PICTURES["changes"], PICTURES["accuracies"]]
    page = "".join(inline_svg(p, f"p{i}", "about") for i, p in enumerate(pair))
    ids = _Identifiers(page)
    assert len(ids.found) == len(set(ids.found))
    assert ids.used <= set(ids.found)
    assert ids.used


def test_an_inline_picture_takes_its_ink_and_paper_from_the_page():
    svg = inline_svg(PICTURES["changes"], "p", "about")
    assert svg.startswith('<svg role="img" aria-label="about"')
    assert module.INK not in svg
    assert "var(--ink)" in svg
    assert "<style" not in svg
    assert "<metadata" not in svg


def test_a_plot_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    check_plot(tmp_path / "a.PNG")
    with pytest.raises(SettingsError, match="does not end in"):
        check_plot(tmp_path / "a.jpg")
    monkeypatch.setattr(module, "is_possible", lambda: False)
    with pytest.raises(SettingsError, match="not installed"):
        check_plot(tmp_path / "a.png")


def test_a_saved_picture_leaves_nothing_beside_it(tmp_path):
    save(PICTURES["changes"], tmp_path / "new" / "a.svg")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.svg"]


@dataclass(frozen=True)
class _Broken:
    size: tuple[float, float] = (1.0, 1.0)

    def draw(self, figure):
        raise ZeroDivisionError


def test_what_cannot_be_drawn_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        save(_Broken(), path)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(("count", "most", "found"), [(3, 5, [0, 1, 2]), (9, 3, [0, 4, 8])])
def test_some_of_many_with_both_ends(count, most, found):
    assert list(evenly(count, most)) == found


def test_numbers_are_left_out_of_cells_that_are_too_small():
    wide = HeatMap("t", "", [[1.0] * 90], ["a"], [""] * 90, "x", "y", (0, 1))
    assert b">1.0<" in render(wide, ".svg")
    assert b">1.0<" not in render(Progress("", [wide]), ".svg")


def test_nothing_is_imported_before_something_is_drawn():
    program = """
import pkgutil, sys
import ness_cli.plots
for found in pkgutil.iter_modules(ness_cli.plots.__path__):
    __import__(f"ness_cli.plots.{found.name}")
heavy = {"matplotlib", "numpy", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)


def test_layers_whose_long_names_begin_alike_are_told_apart():
    names = [f"encoder.layers.encoder_layer_{i}.mlp.fc1" for i in range(12)]
    rows = room("", {1: dict.fromkeys(names, 50.0), 2: {"fc1": 25.0}}).rows
    assert rows[0] == "…encoder_layer_0.mlp.fc1"
    assert len(set(rows)) == len(rows) == 13
    assert rows[-1] == "fc1"
    assert max(map(len, rows)) == 24
