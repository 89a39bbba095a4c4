"""What ness doctor finds on machines that are not as they should be."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.console import Progress
from ness_cli.data.store import prepare
from ness_cli.engine import checkpoint
from ness_cli.errors import StoppedError
from ness_cli.results.findings import Finding
from ness_cli.settings.resolve import resolve
from ness_cli.stages import doctor, self_test
from ness_cli.stop_request import StopRequest
from ness_cli.workplace import Workplace


def _of(found, name):
    return [each for each in found if each.name == name]


def test_a_machine_that_is_well_has_no_problem_and_is_left_as_it_was(tmp_path):
    runs = tmp_path / "runs"
    runs.mkdir()
    found = list(doctor.examine(Workplace(tmp_path / "cache", "cpu"), runs))
    assert not [each for each in found if each.status == "problem"]
    assert all(bool(each.remedy) is (each.status == "note") for each in found)
    assert not list(runs.iterdir())
    assert not (tmp_path / "cache").exists()
    (versions,) = _of(found, "torch")
    assert torch.__version__ in versions.found


def test_a_device_that_is_not_there_is_a_problem_with_the_remedy_of_every_command(tmp_path):
    found = doctor.examine(Workplace(tmp_path, "cuda:99"), tmp_path)
    (device,) = _of(found, "device")
    assert device.status == "problem"
    assert "--device auto or cpu" in device.remedy


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 9), ("?", 9)]
)
def test_cores_are_those_of_the_mask_and_of_the_container(tmp_path, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(9)), raising=False)
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    (tmp_path / "cpu.max").write_text(quota + "\n")
    assert doctor.usable_cpus(tmp_path / "cpu.max") == cores
    assert doctor.usable_cpus(tmp_path / "none") == 9


def test_more_threads_than_cores_are_noted():
    assert doctor._threads(2, 2).status == "good"
    assert doctor._threads(8, 2).remedy.startswith("--threads 2:")


@pytest.mark.parametrize(
    ("free", "status"), [(10**7, "problem"), (10**9, "note"), (10**12, "good")]
)
def test_free_disk_is_judged_where_a_folder_would_be_made(tmp_path, monkeypatch, free, status):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert doctor._disk("disk", tmp_path / "not" / "yet" / "there").status == status


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "cannot be written" in doctor._disk("disk", tmp_path).found
    (tmp_path / "file").write_text("")
    assert doctor._files(tmp_path / "file").status == "problem"


def test_a_folder_from_which_nothing_may_be_removed_is_a_problem(tmp_path, monkeypatch):
    def refused(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for name in ("rename", "replace", "unlink", "remove", "rmdir"):
        monkeypatch.setattr(os, name, refused)
    found = doctor._files(tmp_path)
    assert found.status == "problem"
    assert "Permission denied" in found.found


def test_matrix_products_that_would_not_repeat_are_a_problem_on_a_gpu(monkeypatch):
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2")
    assert doctor._determinism(cuda).status == "problem"
    assert doctor._determinism(cpu).status == "good"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert doctor._determinism(cuda).status == "good"


def test_packages_are_read_from_what_is_declared(monkeypatch):
    declared = ["rich>=13", "pyarrow>=15; extra == 'parquet'", 'x-y>=1 ; extra == "plots"']
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: declared)
    assert doctor._requirements("") == ["rich"]
    assert doctor._requirements("parquet") == ["pyarrow"]
    assert doctor._requirements("plots") == ["x-y"]


def test_prepared_images_that_are_damaged_or_incomplete_are_noted_with_what_to_delete(tmp_path):
    settings = ["data.num_tasks=1", "data.limit_per_class=2"]
    for seed in (1, 2, 3):
        data = resolve("digits", [*settings, f"data.split_seed={seed}"]).settings.stream
        prepare(data, tmp_path, Progress())
    good, damaged, incomplete = sorted(p.parent for p in tmp_path.glob("*/stream.json"))
    (incomplete / "stream.json").unlink()
    images = next(damaged.rglob("*.safetensors"))
    content = bytearray(images.read_bytes())
    content[-1] ^= 255  # of the same size
    images.write_bytes(content)
    first, *notes = doctor._cache(tmp_path)
    assert first.found.startswith("3 streams")
    assert {each.remedy.split(";")[0] for each in notes} == {
        f"delete {damaged}",
        f"delete {incomplete}",
    }
    assert str(good) not in " ".join(each.remedy for each in notes)


# -- the self-test -------------------------------------------------------------------------------


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A workplace whose temporary files lie in a folder of the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return Workplace(tmp_path / "untouched", "cpu", 1)


def test_the_self_test_passes_and_leaves_nothing(workplace, tmp_path):
    found = list(self_test.self_test(workplace))
    assert [each.status for each in found] == ["good"] * 3, found
    assert not list(tmp_path.iterdir())


def test_a_resume_with_other_bits_is_found(workplace, monkeypatch):
    # What the optimiser remembers is lost on the way.
    monkeypatch.setattr(checkpoint, "load_optimizer", lambda *_: None)
    training, resume = self_test.self_test(workplace)
    assert training.status == "good"
    assert resume.status == "problem"
    assert "differ after a kill in task 2: task-02/" in resume.found


def test_weights_that_do_not_follow_from_the_update_are_found(workplace, tmp_path):
    tests = self_test.self_test(workplace)
    assert next(tests).status == "good"
    (model,) = tmp_path.glob("*/first/task-02/model.safetensors")
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    assert next(tests).status == "good"
    model.write_bytes(content)
    projection = next(tests)
    assert projection.status == "problem"
    assert "model.safetensors is damaged" in projection.found


def test_a_bug_is_told_as_a_problem_and_a_stop_stops(workplace, monkeypatch):
    def broken(*_):
        raise RuntimeError("no kernel image is available")

    stop = StopRequest()
    stop.request("SIGTERM")
    with pytest.raises(StoppedError):
        list(self_test.self_test(Workplace(workplace.cache, "cpu", 1, stop=stop)))
    monkeypatch.setattr(self_test, "_train", broken)
    (found,) = self_test.self_test(workplace)
    assert "RuntimeError: no kernel image is available" in found.found


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "code"),
    [
        (Finding.good("threads", "1 thread"), 0),
        (Finding.note("threads", "8 threads", "fewer"), 0),
        (Finding.problem("device", "gone", "another one"), 8),
    ],
)
def test_the_command_shows_every_remedy_and_ends_with_8_if_there_is_a_problem(
    monkeypatch, finding, code
):
    def examine(*_):
        return [finding]

    monkeypatch.setattr(doctor, "examine", examine)
    ended = CliRunner().invoke(app, ["doctor", "--no-self-test"], catch_exceptions=False)
    assert ended.exit_code == code
    assert finding.found in ended.stdout
    assert finding.remedy in ended.stdout
    ended = CliRunner().invoke(app, ["doctor", "--no-self-test", "--json"])
    document = json.loads(ended.stdout)
    assert document["good"] is (code == 0)
    assert document["findings"] == [finding.as_json()]
