"""Preparing a run: what can stop it, what it refuses."""

from __future__ import annotations

import pytest
from factory import Notes
from rewrite import put_values

from ness_cli.cli.targets import targets
from ness_cli.console import Progress
from ness_cli.errors import InputError, StoppedError
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record
from ness_cli.settings.resolve import resolve
from ness_cli.stages.context import RunContext, run_log
from ness_cli.stages.prepare import prepare
from ness_cli.stop_request import StopRequest
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


def test_what_a_killed_process_left_half_written_is_removed_from_the_cache(tmp_path):
    _prepare(tmp_path)
    (described,) = (tmp_path / "cache").glob("*/stream.json")
    described.unlink()
    half = described.with_name(".task-01-test.safetensors.abc.tmp")
    half.write_bytes(b"half")
    _prepare(tmp_path)
    assert described.exists()
    assert not half.exists()


def test_a_run_of_another_version_is_refused(tmp_path):
    _prepare(tmp_path)
    path = tmp_path / "run" / "stream.json"
    put_values(path, {"schema": "ness.stream/1"})
    with pytest.raises(InputError, match="an earlier version"):
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


@pytest.mark.parametrize("was_there", [False, True])
def test_a_refused_preparation_leaves_nothing(tmp_path, was_there):
    run = RunDir(tmp_path / "run")
    if was_there:
        run.path.mkdir()
        run.log.write_text("somebody's own\n")

    def refused():
        with run.lock(), run_log(run, "prepare"):
            assert (run.path / ".lock-1").exists()
            raise InputError("refused", "")

    with pytest.raises(InputError, match="refused"):
        refused()
    assert run.path.exists() == was_there
    assert [path.name for path in run.path.glob("*")] == ["log.txt"] * was_there
    # What is a run keeps the file: the next holder counts on from it.
    _prepare(tmp_path)
    for number in (1, 2):
        with run.lock():
            assert (run.path / f".lock-{number}").exists()
    assert [path.name for path in run.path.glob(".lock*")] == [".lock-2"]


def test_a_mistyped_run_names_the_nearest_one(tmp_path):
    for name in ("runs/leaves", "runs/pmnist", "other/leaves"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text("{}")

    def remedy(path):
        with pytest.raises(InputError, match="is missing") as found:
            read_run_record(RunDir(tmp_path / path))
        return found.value.remedy

    assert f"did you mean {tmp_path / 'runs/leaves'}?" in remedy("runs/laeves")
    assert f"did you mean {tmp_path / 'runs/pmnist'}?" in remedy("run/pmnist")
    assert remedy("runs/xyz") == f"run: ness prepare --out {tmp_path / 'runs/xyz'}"


def test_a_preparation_typed_again_still_knows_where_its_settings_come_from(tmp_path):
    """Killed between ``settings.yaml`` and ``run.json``."""
    _prepare(tmp_path)
    run = tmp_path / "run"
    (run / "run.json").unlink()
    may = {"seed": None, "seeds": None, "may_rebuild": True}
    (typed,) = targets(None, run, overrides=SMALL, **may)
    assert typed.resolved == resolve("digits", SMALL)
    # What is not typed again is that of the folder, not of the default preset.
    (shorter,) = targets(None, run, overrides=[], **may)
    assert shorter.resolved.settings == resolve("digits", SMALL).settings
    assert shorter.resolved.preset == "settings.yaml"
