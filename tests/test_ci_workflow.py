"""The workflow in the documentation does what it says, and fails when results do."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from typed_commands import ness

WORKFLOW = Path(__file__).parents[1] / "docs" / "ci-workflow.yml"


def _commands() -> list[list[str]]:
    """Return the commands of the workflow, that of installing left out."""
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["results"]["steps"]
    found = [shlex.split(step["run"]) for step in steps if "run" in step]
    assert found[0][:2] == ["pip", "install"]
    assert all(command[0] == "ness" for command in found[1:])
    return [command[1:] for command in found[1:]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder in which the workflow's first command has run."""
    folder = tmp_path_factory.mktemp("checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert ness(*_commands()[0]).exit_code == 0
        saved = ness("report", "runs/digits", "--json")
    (folder / "baseline.json").write_text(saved.stdout)
    return folder


def test_its_gates_pass_and_leave_a_report(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for command in _commands()[1:]:
        ended = ness(*command)
        assert ended.exit_code == 0, ended.stderr
        assert "::notice" in ended.stderr
    root = ElementTree.parse("gates.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("4", "0")


def test_a_baseline_out_of_reach_fails_it_with_a_line_on_stderr_and_code_3(folder, monkeypatch):
    monkeypatch.chdir(folder)
    saved = json.loads((folder / "baseline.json").read_text())
    saved["groups"][0]["acc"]["mean"] += 5
    (folder / "better.json").write_text(json.dumps(saved))
    command = [part.replace("baseline.json", "better.json") for part in _commands()[2]]
    ended = ness(*command, "--quiet", "--json")
    assert ended.exit_code == 3
    assert "::error title=digits%2C ness::" in ended.stderr
    assert "gate failed: digits, ness: ACC" in ended.stderr
    assert "is 3.00 below" in ended.stderr
    verdicts = json.loads(ended.stdout)["gates"]
    assert [each["passed"] for each in verdicts] == [False, True, True]


def test_an_unfinished_run_fails_only_where_it_must_be_complete(folder, monkeypatch):
    monkeypatch.chdir(folder)
    out = ["run", "--out", "runs/started", "--threads", "1", "data.num_tasks=2", "train.epochs=1"]
    assert ness(*out, "--until", "1").exit_code == 0
    assert ness("report", "runs/started", "--min-acc", "5").exit_code == 0
    ended = ness("report", "runs/started", "--require-complete")
    assert ended.exit_code == 3
    assert "runs/started: 1 of 2 tasks done (--require-complete)" in ended.stderr


def test_telling_of_gates_without_any_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    ended = ness("report", "runs/digits", "--github")
    assert ended.exit_code == 2
    assert "there is no gate" in ended.stderr
