"""Looking things up must not wait for torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

HEAVY = ("torch", "sklearn", "numpy", "PIL")
COMMANDS = [
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
]
# One process builds the command line and forks one for each command: what a command imports is
# its own, and what all share is paid for once.
PROGRAM = """
import json, os, sys
from ness_cli.cli.app import main

heavy, commands = json.loads(sys.argv[1])
found = {}
for arguments in commands:
    reading, writing = os.pipe()
    if not os.fork():
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["ness", *arguments]
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        said = [code, [name for name in heavy if name in sys.modules]]
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        found[" ".join(arguments)] = json.loads(pipe.read() or '"no answer"')
    os.wait()
print(json.dumps(found))
"""


def test_commands_that_only_look_start_without_torch(tmp_path):
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
    commands = [[places.get(a, a) for a in arguments] for arguments in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([HEAVY, commands])],
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert json.loads(done.stdout) == {" ".join(arguments): [0, []] for arguments in commands}


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
    program = """
import sys
sys.argv = ["ness"]
from ness_cli.cli.app import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""
    line = {
        "_NESS_COMPLETE": "complete_bash",
        "COMP_WORDS": "ness\nrun\ntrain.opt",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        env={**os.environ, **line, "_NESS_COMPLETE": "complete_bash"},
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == [f"train.optimizer={name}" for name in ("sgd", "adam", "adamw")]
