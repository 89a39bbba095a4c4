from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.settings.components import METHODS
from ness_cli.settings.resolve import resolve

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_row_of_a_study_is_a_run_of_its_own(path):
    study = yaml.safe_load(path.read_text())
    choices = study.get("choices", {})
    assert set(choices) <= set(study["rows"])
    for preset in {study["base"], study.get("full", study["base"])}:
        settings = [
            [*study["settings"], *own, *choice]
            for row, own in study["rows"].items()
            for choice in choices.get(row, [[]])
        ]
        assert all(len(each) <= 3 for each in choices.values())
        runs = {resolve(preset, each).settings.fingerprint() for each in settings}
        assert len(runs) == len(settings)


def test_a_study_runs_goes_on_and_lists_what_was_not_run(tmp_path):
    study = tmp_path / "study.yaml"
    small = ["data.num_tasks=2", "train.epochs=1", "net.hidden=[8]", "evaluate.validation=true"]
    rows = {"one": [], "two": ["method.name=finetune"], "three": ["train.lr=0.5"]}
    study.write_text(
        yaml.safe_dump(
            {
                "base": "digits",
                "full": "digits",
                "seeds": [1, 2],
                "full_seeds": [1],
                "settings": small,
                "rows": rows,
            },
            sort_keys=False,
        )
    )
    out = tmp_path / "out"
    command = [sys.executable, STUDIES / "run.py", study, "--out", out, "--rows"]
    for row in ("one", "two", "one"):
        done = subprocess.run(
            [*command, row, "--", "data.limit_per_class=20"],
            capture_output=True,
            text=True,
            check=True,
        )
    table = done.stdout
    assert "| one | 1, 2 |  |" in table
    assert "±" in table
    assert "Not run:\n\n- three: `ness run --preset digits --seeds 1,2" in table
    assert "data.limit_per_class=20" in table
    found = json.loads((out / "table.json").read_text())
    assert [run["seed"] for run in found["one"]] == [1, 2]
    assert "nothing to do" in done.stderr
    bad = subprocess.run([*command, "four"], capture_output=True, text=True)
    assert bad.returncode != 0
    assert "there are one, two, three" in bad.stderr


@pytest.mark.parametrize("name", ["family", "family-digits", "family-pmnist"])
def test_the_studies_of_the_family_have_every_method(name):
    study = yaml.safe_load((STUDIES / f"{name}.yaml").read_text())
    found = {resolve(study["base"], own).settings.method.name for own in study["rows"].values()}
    assert found == set(METHODS.names()) - {"nsp2"}  # prompts need a vision transformer


@pytest.fixture
def run_study(monkeypatch, tmp_path):
    """Run a study in this process, and return the commands that it gave and its table."""
    spec = importlib.util.spec_from_file_location("run", STUDIES / "run.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run", module)
    spec.loader.exec_module(module)
    given = []

    def ness(command):
        given.append(command)
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0

    monkeypatch.setattr(module, "_ness", ness)

    def run(study, *arguments):
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(study, sort_keys=False))
        out = ["--out", str(tmp_path / "out"), "--threads", "1", *arguments]
        monkeypatch.setattr(sys, "argv", ["run.py", str(path), *out])
        given.clear()
        module.main()
        return list(given), json.loads((tmp_path / "out" / "table.json").read_text())

    return run


CHOICES = {
    "base": "digits",
    "seeds": [1],
    "settings": [
        *("data.num_tasks=2", "train.epochs=2", "net.hidden=[8]", "data.size=4"),
        *("evaluate.validation=true", "data.limit_per_class=20"),
    ],
    "choose": {"tasks": 1, "seed": 1},
    "again": {"best": 1, "seeds": [2], "but": ["plain"]},
    "rows": {"ness": ["method.name=ness"], "plain": ["method.name=finetune"]},
    "choices": {"ness": [["train.lr=0.1"], ["train.lr=1e-9"]]},
}


def test_a_setting_is_chosen_by_validation_images_of_the_first_tasks_and_its_run_goes_on(
    run_study, tmp_path
):
    given, table = run_study(CHOICES)
    folders = [Path(command[command.index("--out") + 1]).name for command in given]
    assert folders == ["lr=0.1", "lr=1e-9", "lr=0.1", "plain", "lr=0.1"]
    until = [command[command.index("--until") + 1] for command in given if "--until" in command]
    assert until == ["1", "1"]
    assert [run["seed"] for run in table["ness"]] == [1, 2]  # the reference is not run again
    assert [run["seed"] for run in table["plain"]] == [1]
    row = next(
        line
        for line in (tmp_path / "out" / "table.md").read_text().splitlines()
        if "| ness" in line
    )
    assert row.startswith("| ness | 1, 2 | lr=0.1 |")
    # The one that was not chosen stays at the tasks that the choice was made by.
    left = tmp_path / "out" / "ness" / "lr=1e-9" / "seed-1"
    assert (left / "task-01" / "accuracy.json").exists()
    assert not (left / "task-02" / "train.json").exists()
    chosen = tmp_path / "out" / "ness" / "lr=0.1" / "seed-1" / "task-01" / "train.json"
    written = chosen.stat().st_mtime_ns
    _, again = run_study(CHOICES, "--tabulate")
    assert again == table
    assert chosen.stat().st_mtime_ns == written


def test_what_is_not_chosen_yet_is_listed_with_the_command_that_chooses(run_study, tmp_path):
    run_study(CHOICES, "--rows", "plain")
    said = (tmp_path / "out" / "table.md").read_text()
    assert "- ness: `python studies/run.py" in said
    assert "--rows ness" in said
