from __future__ import annotations

import os
from pathlib import Path

import pytest

from ness_cli.errors import InputError
from ness_cli.results.find_runs import find_runs


def _run(folder: Path) -> Path:
    (folder / "task-01").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    return folder


def test_runs_are_found_at_any_depth_and_in_natural_order(tmp_path):
    names = ["a/seed-10", "a/seed-2", "b", "c/d/e"]
    for name in names:
        _run(tmp_path / name)
    found = find_runs([tmp_path])
    assert [str(run.relative_to(tmp_path)) for run in found.runs] == [
        *("a/seed-2", "a/seed-10", "b", "c/d/e")
    ]
    assert found.notes == []


def test_what_is_no_run_is_left_out_with_a_note(tmp_path):
    run = _run(tmp_path / "run")
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("x")
    found = find_runs(sorted(tmp_path.iterdir()))
    assert found.runs == [run]
    assert [line.split(" is left out")[0] for line in found.notes] == [
        *(str(tmp_path / "empty"), str(tmp_path / "notes.txt"))
    ]


def test_nothing_inside_a_run_is_entered(tmp_path):
    run = _run(tmp_path / "run")
    _run(run / "task-01" / "inner")
    _run(tmp_path / ".hidden")
    assert find_runs([tmp_path]).runs == [run]
    with pytest.raises(InputError, match="is not a run"):
        find_runs([run / "task-02"])


def test_whatever_several_names_lead_to_counts_once(tmp_path):
    run = _run(tmp_path / "runs" / "run")
    (tmp_path / "runs" / "circle").symlink_to(tmp_path / "runs")
    (tmp_path / "runs" / "again").symlink_to(run)
    (tmp_path / "runs" / "broken").symlink_to(tmp_path / "nothing")
    found = find_runs([run, tmp_path / "runs", run.parent / ".." / "runs" / "run"])
    assert found.runs == [run]


def test_a_link_to_a_run_is_a_run(tmp_path):
    _run(tmp_path / "elsewhere")
    (tmp_path / "runs").mkdir()
    link = tmp_path / "runs" / "latest"
    link.symlink_to(tmp_path / "elsewhere")
    assert find_runs([tmp_path / "runs"]).runs == [link]


def test_a_folder_that_cannot_be_read_is_left_out_with_the_reason(tmp_path, monkeypatch):
    run, closed, scandir = _run(tmp_path / "a"), tmp_path / "closed", os.scandir
    closed.mkdir()

    def refusing(folder):
        if folder == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr("ness_cli.results.find_runs.os.scandir", refusing)
    found = find_runs([tmp_path])
    assert found.runs == [run]
    assert found.notes == [f"{closed} is left out: Permission denied"]


@pytest.mark.parametrize("names", [["empty"], ["empty", "file"], ["run", "nowhere"]])
def test_where_there_is_no_run_the_remedy_spoils_nothing(tmp_path, names):
    _run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is not a run") as refusal:
        find_runs([tmp_path / name for name in names])
    # A command that could be typed must not make a run of a folder that was named.
    assert str(tmp_path) not in refusal.value.remedy
    assert "ness run --out DIR" in refusal.value.remedy


def test_a_misspelt_folder_is_met_with_the_near_name(tmp_path):
    _run(tmp_path / "finetune")
    with pytest.raises(InputError, match="did you mean 'finetune'"):
        find_runs([tmp_path / "finetun"])
