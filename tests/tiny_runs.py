"""Runs on a few handwritten digits, trained in a fraction of a second, and their test images."""

from __future__ import annotations

import json

from factory import NETS
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.cli.session import cache_dir
from ness_cli.data.task_stream import Split, TaskStream

TINY = [
    *("--preset", "digits", "data.protocol=split", "data.classes_per_task=2", "data.num_tasks=2"),
    *("data.limit_per_class=30", "train.epochs=2"),
    *("evaluate.batch_size=64", "evaluate.scenario=both"),
]


def make_run(out, *overrides, method="ness"):
    """Make a run of two tasks of two digits, of a network that the method takes; return ``out``."""
    net = [f"net.{key}={json.dumps(value)}" for key, value in NETS.get(method, {}).items()]
    net = [*net, "data.channels=rgb", "data.size=8"] if net else ["net.hidden=[12, 10]"]
    arguments = ["run", "--out", str(out), *TINY, f"method.name={method}", *net, *overrides]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return out


def prepared(run, task_number) -> Split:
    """Return the test images of a task and their labels."""
    manifest = json.loads((run / "stream.json").read_text())
    return TaskStream(manifest, cache_dir()).split(task_number, "test")
