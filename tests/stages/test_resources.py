from __future__ import annotations

import json
import shutil
from collections import namedtuple

import pytest
from factory import GroupedBackbone, add_task, make_method, make_settings, make_task
from typed_commands import ness

from ness_cli import tensor_files
from ness_cli.methods.ness import Ness
from ness_cli.nets.multi_head import MultiHead
from ness_cli.stages import resources

SMALL = ["--preset", "digits", "data.num_tasks=2", "train.epochs=1", "net.hidden=[24, 16]"]
Usage = namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    assert ness("prepare", "--out", out, *SMALL).exit_code == 0
    assert ness("train-task", out).exit_code == 0
    return out


def test_a_step_that_the_disk_cannot_take_is_refused_with_figures(trained, monkeypatch, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**6, 10**6 - 2000, 2000))
    for step, files in (("train-task", "model"), ("build-subspace", "covariance")):
        result = ness(step, out, *(["--force", "--task", 1] if step == "train-task" else []))
        assert result.exit_code == 8
        assert "the disk has 2.0 kB free, and this step writes up to" in result.stderr
        assert files in result.stderr
    assert (out / "task-01" / "train.json").exists()  # nothing that was there has gone
    monkeypatch.undo()
    assert ness("build-subspace", out).exit_code == 0


def test_memory_that_may_not_be_enough_is_noted(trained, monkeypatch, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    monkeypatch.setattr(resources, "available_memory", lambda: 1000)
    result = ness("build-subspace", out)
    assert result.exit_code == 0
    assert "and 1.0 kB are available" in result.stderr
    for enough in (10**12, None):
        monkeypatch.setattr(resources, "available_memory", lambda enough=enough: enough)
        result = ness("build-subspace", out, "--force", "--task", 1)
        assert "available" not in result.stderr


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("ness", {}),
        ("ness", {"methods": {"ness": {"eps1": 0.08}}}),
        ("ness", {"methods": {"ness": {"scaling": "bounded", "eps1": 0.02}}}),
        ("ness", {"methods": {"ness": {"scaling": "none", "budget": 0.1}}}),
        ("ness", {"train": {"optimizer": "adam"}}),
        ("ness", {"net": {"biases": True, "bias": "augmented"}}),
        ("gpm", {}),
        ("sgp", {"methods": {"sgp": {"threshold": 1.0}}}),
        ("finetune", {}),
    ],
)
def test_files_are_never_larger_than_announced(name, extra):
    method = make_method(make_settings(method={"name": name}, **extra))
    announced = method.file_sizes()
    for task_number in (1, 2):
        add_task(method, task_number)
        task = make_task(task_number)
        method.begin_task(task)
        method.end_task(task)
        left = method.outputs("train")
        method.consolidate(task, lambda _: None)
        left |= method.outputs("build")
        assert left.keys() <= announced.keys()
        for file, tensors in left.items():
            assert 0 < tensor_files.num_bytes(tensors) <= announced[file]


def test_what_a_step_is_said_to_write_is_what_is_there(trained, tmp_path):
    out = shutil.copytree(trained, tmp_path / "run")
    assert ness("build-subspace", out).exit_code == 0
    plan = json.loads(ness("prepare", "--dry-run", "--json", *SMALL).stdout)["runs"][0]
    for name in ("model", "covariance", "basis"):
        size = (out / "task-01" / f"{name}.safetensors").stat().st_size
        # The header of a file comes on top; bases and models are announced at most.
        assert size <= plan["bytes_per_task"][name] + 1500
    widths = [layer["d"] for layer in plan["layers"]]
    assert plan["bytes_per_task"]["covariance"] == sum(8 * d**2 for d in widths)
    assert plan["build_memory_bytes"] >= 2 * sum(8 * d**2 for d in widths)


@pytest.mark.parametrize("budget", [None, 0.1])
def test_groups_that_are_kept_apart_take_a_matrix_each(budget):
    settings = make_settings(methods={"ness": {"budget": budget}})
    model = MultiHead(GroupedBackbone(), GroupedBackbone.num_features, shared_head=False)
    method = Ness(model, settings.options, settings.train, seed=1)
    announced = resources.build_memory(method, threads=1)
    held = []
    for number in (1, 2):
        add_task(method, number)
        task = make_task(number)
        method.begin_task(task)
        method.end_task(task)
        method.consolidate(task, lambda _: None)
        held.append(tensor_files.num_bytes(method.outputs("build")["covariance"]))
    # Building holds the sums so far, those of the task, and what groups share.
    pooled = 8 * 8**2 * (budget is not None)
    assert announced == sum(held) + pooled
    assert held[0] == 8 * (9**2 + 54**2 + (2 if budget else 1) * 8**2)


def test_available_memory_is_the_least_that_the_system_tells(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    assert resources._left_of_group(tmp_path) == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert resources._left_of_group(tmp_path) is None
    assert resources._left_of_group(tmp_path / "none") is None
    (tmp_path / "info").write_text("MemTotal: 9 kB\nMemAvailable:   7 kB\n")
    assert resources._field(tmp_path / "info", "MemAvailable:", unit=1024) == 7 * 1024
    assert resources._field(tmp_path / "none", "MemAvailable:", unit=1024) is None
    values = {"_field": 500, "_left_of_group": 600}
    for name, value in values.items():
        monkeypatch.setattr(resources, name, lambda *_, value=value, **__: value)
    assert resources.available_memory() == 500
