from __future__ import annotations

import json
import shlex

import pytest
from made_up_run import made_up

from ness_cli.results.provenance import commands, runs_table, settings_table
from ness_cli.stages.report import report

MADE = {"device": "cpu", "threads": 2, "finished": "2026-01-02T03:04:05+00:00"}


@pytest.fixture
def group(tmp_path):
    settings = {"train.lr": 0.5, "train.augment": ["A b"], "train.epochs": 3}
    origins = dict.fromkeys((*settings, "seed", "data.path", "storage.keep"), "command line")
    origins["train.epochs"] = "preset mine"
    for seed in (2, 1):
        folder = made_up(tmp_path / f"seed {seed}", seed, settings=settings, more=MADE)
        record = json.loads((folder / "run.json").read_text())
        record |= {"origins": origins, "created": "2026-01-01", "versions": {"torch": "2.x"}}
        (folder / "run.json").write_text(json.dumps(record))
    (found,) = report([tmp_path]).groups
    return found


def test_the_command_has_what_was_typed_and_decides_numbers(group):
    words = shlex.split(commands(group)[0])
    assert words[:4] == ["ness", "run", "--preset", "mine"]
    assert words[words.index("--seeds") + 1] == "1,2"
    assert {"train.lr=0.5", "data.path=IMAGES"} <= set(words)
    assert [word for word in words if word.startswith("train.augment=")] != []
    assert not [word for word in words if word.startswith(("storage", "seed=", "train.epochs"))]


def test_settings_say_where_they_come_from(group):
    rows = {row.cells[0].text: row for row in settings_table(group).rows}
    assert [cell.text for cell in rows["train.lr"].cells] == ["train.lr", "0.5", "command line"]
    assert rows["net.name"].is_faint
    assert not rows["train.epochs"].is_faint
    assert "seed" not in rows


def test_runs_say_with_what_they_were_made(group):
    table = runs_table(group)
    heads = [column.name for column in table.columns]
    first = dict(zip(heads, (cell.text for cell in table.rows[0].cells), strict=True))
    assert (first["device"], first["threads"], first["torch"]) == ("cpu", "2", "2.x")
    assert first["python"] == "-"
    assert first["finished"].startswith("2026-01-02")
