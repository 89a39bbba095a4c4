"""The page of a report: whole, safe whatever names are in it, and the same for the same results."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from made_up_run import made_up

from ness_cli.console import Progress
from ness_cli.plots import picture
from ness_cli.plots.ramp import luminance
from ness_cli.results import experiment_pictures
from ness_cli.results.formats import html
from ness_cli.results.page import elements, experiment
from ness_cli.results.published import published_table
from ness_cli.stages.report import report, save_pictures

UGLY = "<script>\x1b[31m'\"$x^"
LAYERS = {"layers": [{"layer": "<b>fc", "free_percent": 12.5, "rank": 1, "d": 8}]}
VOID = {"meta", "br"}


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.shown: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.open += [] if tag in VOID else [tag]

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.shown)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three seeds of one method and one of another, with the worst names there are."""
    parent = tmp_path_factory.mktemp("runs")
    rows = {s: [[90.0 - i - s * t for i in range(t)] for t in range(1, 11)] for s in (1, 2, 3)}
    for seed in (1, 2, 3):
        folder = made_up(parent / "a" / f"seed-{seed}", seed, rows=rows[seed], more=LAYERS)
        stream = json.loads((folder / "stream.json").read_text())
        stream["tasks"][0]["classes"] = [UGLY]
        (folder / "stream.json").write_text(json.dumps(stream))
        epochs = [{"train_loss": 1.0 / e, "valid_accuracy": 50.0 + e} for e in (1, 2, 3)]
        lines = "".join(json.dumps(entry) + "\n" for entry in epochs)
        (folder / "task-01" / "history.jsonl").write_text(lines)
    made_up(parent / "<img src=x onerror=alert(1)>" / "b", 1, method="gpm")
    return parent


@pytest.fixture(scope="module")
def page(runs):
    return html.render(report([runs]))


def test_the_same_results_give_the_same_bytes(runs, page):
    assert html.render(report([runs])) == page


def test_no_name_is_markup_and_every_element_is_closed(page):
    found = Page(page)
    assert not found.tags & {"script", "img", "b", "iframe", "link", "object"}
    assert not [key for key, _ in found.attributes if key.startswith("on")]
    assert "<script>" in found.text
    assert r"\x1b[31m" in found.text
    assert "<img src=x onerror=alert(1)>" in found.text
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", page)


def test_a_row_is_called_by_its_first_cell_and_no_region_is_without_a_name(page):
    bodies = re.findall(r"(?s)<tbody>(.*?)</tbody>", page)
    rows = [row for body in bodies for row in re.findall(r"(?s)<tr[^>]*>(.*?)</tr>", body)]
    assert len(rows) > 40
    assert all(re.match(r'<th scope="row"', row) and row.count("<th") == 1 for row in rows)
    assert not re.search(r'<th(?!ead| scope)|aria-label=""', page)


def test_the_means_over_seeds_are_shown_once(page):
    assert page.count('class="title">Mean ± sample standard deviation') == 1


def test_a_page_needs_nothing_from_elsewhere(page):
    found = Page(page)
    assert "src" not in dict(found.attributes)
    links = [value for key, value in found.attributes if key.endswith("href")]
    assert links
    assert all(link.startswith("#") for link in links)
    places = {value for key, value in found.attributes if key == "id"}
    assert {link[1:] for link in links} <= places
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert "default-src 'none'" in page


def test_the_triangle_has_the_means_over_seeds_and_can_be_read(page):
    cells = re.findall(r'<td style="background:(#\w+);color:(#\w+)">([\d.]+)</td>', page)
    means = [
        statistics.fmean(90.0 - i - s * t for s in (1, 2, 3))
        for t in range(1, 11)
        for i in range(t)
    ]
    assert [float(text) for _, _, text in cells[55:110]] == pytest.approx(means, abs=0.051)
    for paper, ink, _ in cells:
        light, dark = sorted((luminance(paper), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_all_parts_are_there(page):
    shown = Page(page).text
    for words in (
        *("Overview", "Every run", "What the metrics are", "Time and bytes", "Settings"),
        *("mean over 3 seeds", "Directions open to the next task", "ness run --preset mine"),
        *("Loss and validation accuracy of every epoch", "Accuracy against backward transfer"),
    ):
        assert words in shown
    assert page.count("<svg") == 4  # three of all experiments, the training of the one recorded


def test_without_matplotlib_the_tables_are_there_with_a_line_on_it(runs, monkeypatch):
    for module in (picture, html, elements):
        monkeypatch.setattr(module, "is_possible", lambda: False)
    text = html.render(report([runs]))
    assert "<svg" not in text
    assert "matplotlib is not installed" in text
    assert text.count("background:#") >= 55


def test_what_does_not_read_back_is_named_and_the_rest_is_shown(tmp_path):
    folder = made_up(tmp_path / "a", 1)
    (folder / "task-01" / "history.jsonl").write_text("{\n")
    made_up(tmp_path / "b", 2)
    (tmp_path / "b" / "run.json").write_text("{\n")
    shown = Page(html.render(report([tmp_path]))).text
    assert re.search(r"training of .*a left out: .*history.jsonl is damaged", shown)
    assert re.search(r"Left out: .*run.json", shown)


def test_a_run_that_was_never_evaluated_has_a_page(tmp_path):
    folder = made_up(tmp_path / "a", 1, order=[0])
    (folder / "task-01" / "accuracy.json").unlink()
    assert "nothing measured yet" in html.render(report([folder]))


def test_published_numbers_stand_beside_runs_of_their_preset(tmp_path):
    rows = (("as-published", "preset x", 1.0), ("changed", "command line", 2.0))
    for name, origin, rate in rows:
        folder = made_up(tmp_path / name, 1, method="gpm", settings={"train.lr": rate})
        record = json.loads((folder / "run.json").read_text())
        record |= {"preset": "cifar100-alexnet-gpm", "origins": {"train.lr": origin}}
        (folder / "run.json").write_text(json.dumps(record))
    shown = Page(html.render(report([tmp_path]))).text
    assert "71.63 ± 0.67" in shown
    assert "Pham et al., CPAL 2026" in shown
    assert "other settings" in shown
    assert "not as in the preset: train.lr" in shown


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"data.source": "parquet", "track.to": ["csv"], "seed": 1}, "consistent"),
        ({"data.source": "digits"}, "other settings"),
    ],
)
def test_the_published_number_of_a_preset_is_for_its_images(tmp_path, changed, verdict):
    folder = made_up(tmp_path / "a", 1, rows=[[71.0] * t for t in range(1, 11)], method="gpm")
    record = json.loads((folder / "run.json").read_text())
    record["identity"] |= {key: value for key, value in changed.items() if key != "track.to"}
    origins = dict.fromkeys(changed, "command line")
    record |= {"preset": "cifar100-alexnet-gpm", "origins": origins}
    (folder / "run.json").write_text(json.dumps(record))
    found = report([tmp_path])
    table = published_table(found.groups, found.experiment_names)
    assert [row.cells[2].text for row in table.rows][:1] == [verdict]


def test_many_experiments_have_a_page_with_pictures_of_the_first_and_the_best(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(experiment_pictures, "MOST_LINES", 2)
    monkeypatch.setattr(experiment, "MOST_DRAWN", 0)
    for seed in (1, 2, 3):
        made_up(tmp_path / str(seed), seed, eps1=seed, order=range(2))
    found = report([tmp_path])
    lines = experiment_pictures.side_by_side(found.groups, found.experiment_names)[0]
    assert [line.means[0] for line in lines.picture.lines] == [97.5, 95.0]
    assert "the 2 of 3 experiments with the best ACC" in lines.caption
    assert html.render(found).count("<svg") == 3


def test_names_of_files_are_plain_and_different():
    found = experiment_pictures.slugs(["A/b: <c>", "a b c", "日本", "é" * 9, "x" * 99, "x" * 98])
    assert len(set(found)) == len(found)
    assert all(re.fullmatch(r"[a-z0-9-]+", each) for each in found)


def test_pictures_are_saved_in_three_formats(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("ness_cli.stages.report.save_picture", lambda p, path: path.touch())
    (tmp_path / "plots").mkdir()
    written = save_pictures(report([runs]), tmp_path, Progress())
    stems = {path.stem for path in written}
    assert {"accuracy-over-tasks", "change-per-task", "acc-against-bwt"} <= stems
    assert {"accuracy-matrix-ness", "room-ness", "training-ness", "accuracy-matrix-gpm"} <= stems
    assert len(written) == 3 * len(stems)
    assert {path.suffix for path in written} == {".png", ".svg", ".pdf"}
    monkeypatch.setattr("ness_cli.stages.report.is_possible", lambda: False)
    assert save_pictures(report([runs]), tmp_path, Progress()) == []


def test_a_page_is_made_without_torch(runs):
    program = f"""
import sys
from pathlib import Path
from ness_cli.stages.report import report, report_format
assert "<svg" in report_format("html").render(report([Path({str(runs)!r})]))
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)
