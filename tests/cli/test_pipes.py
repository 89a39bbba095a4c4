"""A reader that goes away, as in ``ness run ... | head -1``: the work is done all the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_state

TINY = ["data.num_tasks=2", "train.epochs=1", "net.hidden=[8]", "data.limit_per_class=4"]


def _piped_into_nothing(*arguments: object) -> int:
    """Run a command whose reader closes the pipe before the first line; return its exit code."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ness_cli", *map(str, arguments)]
    try:
        return subprocess.run(command, stdout=writer, stderr=writer, timeout=600).returncode
    finally:
        os.close(writer)


@pytest.fixture(scope="module")
def run(processes, tmp_path_factory):
    """A run that was made with nobody listening."""
    out = tmp_path_factory.mktemp("pipes") / "run"
    ended = processes.ness("run", "--preset", "digits", "--out", out, *TINY, is_heard=False)
    assert ended.code == 0
    return out


def test_a_run_that_nobody_listens_to_is_complete(run):
    assert read_state(RunDir(run)).next() is None


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_report_that_nobody_reads_is_no_failure(run, more):
    assert _piped_into_nothing("report", run, *more) == 0


def test_a_failure_keeps_its_exit_code(run):
    assert _piped_into_nothing("report", run / "task-01") == 4
