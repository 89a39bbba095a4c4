"""Preparing a run: what can stop it, what it refuses."""

from __future__ import annotations

import json

import pytest
from factory import Notes

from ness_cli.console import Progress
from ness_cli.errors import InputError, StoppedError
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
from ness_cli.stages.context import RunContext
from ness_cli.stages.prepare import prepare
from ness_cli.stop import StopRequest
from ness_cli.workplace import Workplace

SMALL = ["data.num_tasks=2", "net.hidden=[8]"]


def _prepare(tmp_path, *overrides, stop=None, progress=None):
    resolved = resolve("digits", [*SMALL, *overrides])
    run = RunDir(tmp_path / "run")
    run.path.mkdir(exist_ok=True)
    more = {"progress": progress or Progress(), "stop": stop or StopRequest()}
    return prepare(run, resolved, Workplace(tmp_path / "cache", "cpu", **more))


def test_a_stop_is_honoured_in_the_middle_and_leaves_nothing_half_made(tmp_path):
    stop = StopRequest()
    stop.request("SIGTERM")
    with pytest.raises(StoppedError, match="preparing starts over"):
        _prepare(tmp_path, stop=stop)
    assert not (tmp_path / "run" / "run.json").exists()
    assert not list((tmp_path / "cache").glob("*/stream.json"))
    assert not _prepare(tmp_path).was_there


def test_a_run_of_another_version_is_refused(tmp_path):
    _prepare(tmp_path)
    path = tmp_path / "run" / "stream.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"schema": "ness.stream/1"}))
    with pytest.raises(InputError, match="another version"):
        RunContext(RunDir(tmp_path / "run"), Workplace(tmp_path / "cache", device="cpu"))


def test_the_hash_of_the_files_does_not_depend_on_the_settings(tmp_path):
    first = _prepare(tmp_path).manifest
    (tmp_path / "other").mkdir()
    second = _prepare(tmp_path / "other", "data.split_seed=run", "seed=5").manifest
    assert first["content"] == second["content"]
    assert first["key"] != second["key"]


def test_what_is_to_be_known_of_the_classes_is_said_when_a_run_is_first_prepared(tmp_path):
    notes = Notes()
    _prepare(tmp_path, progress=notes)
    (counts,) = notes.texts
    assert counts == "10 classes with 140 to 147 training and 34 to 36 test images each"
    _prepare(tmp_path, progress=notes)
    assert len(notes.texts) == 1
