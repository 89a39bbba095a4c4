"""The table of a study: rows, means over seeds, what is missing; every format."""

from __future__ import annotations

import csv
import io
import json

import pytest
from fake_runs import make_run, write_study
from typer.testing import CliRunner

from ness_cli.cli.app import app


def table(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["study", "table", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def folder(tmp_path):
    """A study of two rows and two seeds; the second row lacks one."""
    out = write_study(tmp_path, {"b": ["net.hidden=[8]"], "a": ["net.hidden=[9]"]}, seeds=[1, 2])
    for row, seed, last in (("b", 1, [90.0, 70.0]), ("b", 2, [94.0, 76.0]), ("a", 1, [50.0, 40.0])):
        settings = ["net.hidden=[8]" if row == "b" else "net.hidden=[9]"]
        make_run(out / row / f"seed-{seed}", settings, seed, rows=[[92.0], last])
    return out


def test_a_row_has_the_mean_and_the_deviation_of_its_seeds(folder):
    document = json.loads(table(folder, "--json"))
    b, a = document["rows"]
    assert (b["row"], b["seeds"], a["row"], a["seeds"]) == ("b", [1, 2], "a", [1])
    # ACC of the seeds: 80 and 85; BWT: -2 and 2.
    assert b["acc"] == {"mean": 82.5, "std": pytest.approx(12.5**0.5)}
    assert b["bwt"] == {"mean": 0.0, "std": pytest.approx(8**0.5)}
    assert a["acc"] == {"mean": 45.0, "std": None}
    assert document["unfinished"] == ["a/seed-2: not run"]


def test_rows_and_seeds_can_be_picked(folder):
    document = json.loads(table(folder, "--rows", "b", "--seeds", "2", "--json"))
    assert [(row["row"], row["acc"]["mean"]) for row in document["rows"]] == [("b", 85.0)]
    assert document["unfinished"] == []


def test_it_is_written_in_all_formats_beside_the_runs(folder, tmp_path):
    shown = table(folder)
    assert "82.50 ± 3.54" in shown
    assert "a/seed-2: not run" in shown
    assert "| b | 1, 2 | 82.50 ± 3.54 | 0.00 ± 2.83 |" in (folder / "table.md").read_text()
    assert r"b & 1, 2 & \textbf{82.50 $\pm$ 3.54}" in (folder / "table.tex").read_text()
    rows = list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert [row["name"] for row in rows if row["kind"] == "group"] == ["b", "a"]
    assert json.loads((folder / "table.json").read_text())["rows"][0]["row"] == "b"
    before = (folder / "table.md").read_bytes()
    table(folder, "--rows", "a", "--save", tmp_path / "else")
    assert (folder / "table.md").read_bytes() == before
    assert (tmp_path / "else" / "table.md").exists()


def test_a_folder_of_runs_without_a_study_is_tabulated_by_its_layout(folder):
    (folder / "study.json").unlink()
    document = json.loads(table(folder, "--json"))
    assert {row["row"]: row["seeds"] for row in document["rows"]} == {"a": [1], "b": [1, 2]}
    assert document["rows"][1]["acc"]["mean"] == 82.5
