"""What may go of a run and of the cache, and what must stay."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from typed_commands import document, good, ness

from ness_cli.cli.session import cache_dir
from ness_cli.lease import Lease
from ness_cli.run_dir import RunDir
from ness_cli.stages import doctor
from ness_cli.stages.build_subspace import build_subspace
from ness_cli.stages.context import RunContext
from ness_cli.stages.train_task import train_task
from ness_cli.workplace import Workplace

TINY = [
    *("--preset", "digits", "data.num_tasks=3", "data.limit_per_class=10", "net.hidden=[12, 10]"),
    *("train.epochs=1", "evaluate.batch_size=100", "evaluate.scenario=both"),
]


def _tensor_files(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.safetensors")}


@pytest.mark.parametrize("method", ["ness", "gpm", "trgp", "er"])
def test_a_pruned_run_is_one_that_kept_the_latest_only(method, tmp_path):
    full, kept = tmp_path / "full", tmp_path / "kept"
    good("run", "--out", full, *TINY, f"method.name={method}")
    good("run", "--out", kept, *TINY, f"method.name={method}", "storage.keep=latest")
    before = _tensor_files(full)
    planned = document("prune", full, "--dry-run")
    assert _tensor_files(full) == before
    done = document("prune", full)
    assert done["removed"] == planned["removed"]
    assert done["removed"] == {n: len(b) for n, b in before.items() if not (full / n).exists()}
    assert done["bytes"] == sum(done["removed"].values()) > 0
    # A run that keeps the latest removes when it builds, before its newest task is scored.
    assert _tensor_files(full).keys() <= _tensor_files(kept).keys()
    assert document("prune", full)["removed"] == {}
    assert json.loads(good("status", full, "--json").stdout)["runs"][0]["next"] == (
        f"ness report {full}"
    )


@pytest.mark.parametrize("command", [[], ["prune"]], ids=["keep=latest", "prune"])
def test_what_an_accuracy_still_needs_stays(command, tmp_path):
    out = tmp_path / "run"
    keep = [] if command else ["storage.keep=latest"]
    good("prepare", "--out", out, *TINY, "method.name=trgp", "methods.trgp.relevance=0.0", *keep)
    for _ in range(2):
        good("train-task", out)
        good("build-subspace", out)
    if command:
        good(*command, out)
    assert (out / "task-01" / "memory.safetensors").exists()
    good("evaluate", out)
    good("evaluate", out)
    good("prune", out)
    assert not (out / "task-01" / "memory.safetensors").exists()
    good("verify", out)


def test_a_model_that_no_update_leads_to_stays_until_it_is_scored(tmp_path):
    out, options = tmp_path / "run", ["methods.eblora.memory=activation", "methods.eblora.energy=1"]
    closed = ["data.limit_per_class=30", "net.hidden=[4, 10]", "net.adapt=[fc2]", *options]
    keep = "storage.keep=latest"
    good("prepare", "--out", out, *TINY, "method.name=eblora", *closed, keep)
    for _ in range(3):
        good("train-task", out)
        good("build-subspace", out)
    assert not (out / "task-02" / "update.safetensors").exists()
    for _ in range(3):
        good("evaluate", out)


def test_tasks_that_one_process_builds_and_does_not_score_leave_the_latest_only(tmp_path):
    out = tmp_path / "run"
    good("prepare", "--out", out, *TINY, "storage.keep=latest")
    context = RunContext(RunDir(out), Workplace(cache_dir()))
    for _ in range(3):
        train_task(context)
        build_subspace(context)
    assert [p.parent.name for p in out.glob("*/covariance.safetensors")] == ["task-03"]


def test_a_run_with_nothing_built_has_nothing_to_prune(tmp_path):
    good("prepare", "--out", tmp_path / "run", *TINY)
    assert document("prune", tmp_path / "run")["removed"] == {}
    assert ness("prune", tmp_path / "nowhere").exit_code == 4
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache with the images of two runs, and something that is none of ours."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NESS_CACHE", str(folder))
    for name, seed in (("a", 1), ("b", 2)):
        good("prepare", "--out", tmp_path / "runs" / name, *TINY, f"data.split_seed={seed}")
    (folder / "weights").mkdir()
    (folder / "weights" / "pretrained.safetensors").write_bytes(b"kept")
    return folder


def _folder(run):
    return json.loads((run / "run.json").read_text())["stream_key"][:32]


def test_the_cache_shows_what_it_holds(cache, tmp_path):
    found = document("cache", "ls")
    folders = {_folder(tmp_path / "runs" / name) for name in "ab"}
    assert {Path(each["folder"]).name for each in found["streams"]} == folders
    for each in found["streams"]:
        assert (each["source"], each["tasks"]) == ("digits", 3)
        files = list(Path(each["folder"]).iterdir())
        assert each["bytes"] == sum(path.stat().st_size for path in files)
    manifest = json.loads((tmp_path / "runs" / "a" / "stream.json").read_text())
    counts = [s["count"] for t in manifest["tasks"] for s in t["splits"].values()]
    assert sum(counts) in {each["images"] for each in found["streams"]}
    assert "2 streams" in good("cache", "ls").stdout


def test_images_whose_description_the_system_lets_nobody_read_are_not_incomplete(
    cache, tmp_path, monkeypatch
):
    named = cache / _folder(tmp_path / "runs" / "b") / "stream.json"
    shutil.rmtree(tmp_path / "runs" / "b")
    read = Path.read_bytes

    def refused(path):
        if path == named:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refused)
        for words in (("ls",), ("prune", "--runs", tmp_path / "runs")):
            ended = ness("cache", *words)
            assert ended.exit_code == 8
            assert f"{named} cannot be read: Input/output error" in ended.stderr
            assert "incomplete" not in ended.stdout
        problem = list(doctor._cache(cache))[1]
        assert "cannot be read" in problem.found
        assert "delete" not in problem.remedy
    assert len(document("cache", "ls")["streams"]) == 2


def test_an_empty_or_missing_cache_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("NESS_CACHE", str(tmp_path / "none"))
    assert document("cache", "ls")["streams"] == []


def test_what_no_named_run_needs_is_freed(cache, tmp_path):
    runs, gone = tmp_path / "runs", _folder(tmp_path / "runs" / "b")
    shutil.rmtree(runs / "b")
    dry = document("cache", "prune", "--runs", runs, "--dry-run")
    assert (cache / gone).exists()
    done = document("cache", "prune", "--runs", runs)
    assert done["removed"] == dry["removed"]
    assert [Path(each["folder"]).name for each in done["removed"]] == [gone]
    assert not (cache / gone).exists()
    assert (cache / _folder(runs / "a")).exists()
    assert (cache / "weights" / "pretrained.safetensors").exists()
    good("run", "--out", runs / "a")


def test_images_of_appended_tasks_are_needed_too(cache, tmp_path):
    run = tmp_path / "runs" / "a"
    good("extend", run, "data.num_tasks=1", "data.split_seed=3")
    before = {Path(each["folder"]).name for each in document("cache", "ls")["streams"]}
    shutil.rmtree(tmp_path / "runs" / "b")
    removed = document("cache", "prune", "--runs", run)["removed"]
    left = before - {Path(each["folder"]).name for each in removed}
    assert len(left) == 2
    good("run", "--out", run)


def test_nothing_is_freed_without_being_told_where_runs_are(cache, tmp_path):
    assert ness("cache", "prune").exit_code == 2
    assert ness("cache", "prune", "--runs", cache).exit_code == 4
    record = tmp_path / "runs" / "b" / "run.json"
    record.write_text("{}")
    assert ness("cache", "prune", "--runs", tmp_path / "runs").exit_code == 5
    assert len(document("cache", "ls")["streams"]) == 2


def test_images_that_are_being_prepared_stay(cache, tmp_path):
    gone = _folder(tmp_path / "runs" / "b")
    with Lease(cache / f"{gone}.lock").held():
        result = good("cache", "prune", "--runs", tmp_path / "runs" / "a")
    assert "is being prepared, and stays" in result.stderr
    assert (cache / gone / "stream.json").exists()
