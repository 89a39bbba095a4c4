from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ness_cli.settings.resolve import resolve

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_row_of_a_study_is_a_run_of_its_own(path):
    study = yaml.safe_load(path.read_text())
    for preset in (study["base"], study["full"]):
        rows = {
            row: resolve(preset, [*study["settings"], *settings]).settings.fingerprint()
            for row, settings in study["rows"].items()
        }
        assert len(set(rows.values())) == len(rows)


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
    assert "| one | 1, 2 |" in table
    assert "±" in table
    assert "Not run:\n\n- three: `ness run --preset digits --seeds 1,2" in table
    assert "data.limit_per_class=20" in table
    found = json.loads((out / "table.json").read_text())
    assert [run["seed"] for run in found["one"]] == [1, 2]
    assert "nothing to do" in done.stderr
    bad = subprocess.run([*command, "four"], capture_output=True, text=True)
    assert bad.returncode != 0
    assert "there are one, two, three" in bad.stderr
