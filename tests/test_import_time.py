"""Looking things up must not wait for torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.argv = ["ness", *{arguments!r}]
from ness_cli.cli.app import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = [name for name in ("torch", "sklearn", "numpy", "PIL") if name in sys.modules]
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["presets", "ls"],
        ["networks"],
        ["presets", "cat", "digits"],
        ["presets", "schema"],
        ["presets", "validate", "digits"],
        ["methods"],
        ["methods", "ness"],
        ["datasets"],
        ["datasets", "npz"],
        ["settings", "train"],
        ["status", "RUN"],
        ["report", "RUN"],
        ["report", "RUN", "--json"],
        ["study", "ls", "RUN"],
        ["study", "status", "STUDY"],
        ["study", "table", "STUDY"],
        ["report", "RUN", "--format", "csv"],
        ["report", "--explain"],
    ],
    ids=" ".join,
)
def test_a_command_that_only_looks_starts_without_torch(arguments, tmp_path):
    record = {
        "fingerprint": "f",
        "identity": {"seed": 1},
        "preset": "digits",
        "method": "ness",
        "seed": 1,
        "num_tasks": 1,
        "stream_key": "k",
        "notes": [],
        "origins": {},
    }
    (tmp_path / "run.json").write_text(json.dumps(record))
    study = tmp_path / "study"
    (study / "row").mkdir(parents=True)
    (study / "study.yaml").write_text("rows: {row: []}")
    (study / "study.json").write_text('{"engine": "local", "device": "auto"}')
    places = {"RUN": str(tmp_path), "STUDY": str(study)}
    arguments = [places.get(a, a) for a in arguments]
    subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=arguments)],
        check=True,
        capture_output=True,
        timeout=600,
    )


def test_settling_how_to_compute_does_not_wait_for_the_compiler():
    program = """
import sys
from ness_cli import numerics
from ness_cli.settings.sections import ComputeSettings
numerics.configure(ComputeSettings())
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=600)


def test_a_shell_is_answered_without_torch():
    line = {
        "_NESS_COMPLETE": "complete_bash",
        "COMP_WORDS": "ness\nrun\ntrain.opt",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(arguments=[])],
        check=True,
        capture_output=True,
        env={**os.environ, **line, "_NESS_COMPLETE": "complete_bash"},
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [f"train.optimizer={name}" for name in ("sgd", "adam", "adamw")]
