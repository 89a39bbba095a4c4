"""What a run keeps, against its files as safetensors itself reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli import tensor_files
from ness_cli.cli.app import app
from ness_cli.errors import DamagedError, InputError

TASKS = (1, 2)
SMALL = ["data.num_tasks=2", "train.epochs=2", "net.hidden=[4, 3]", "data.size=4"]
PIXELS = 16


def _run(folder: Path, method: str, *overrides: str) -> Path:
    typed = ["run", "--preset", "digits", "--out", str(folder), f"method.name={method}"]
    done = CliRunner().invoke(app, [*typed, *SMALL, *overrides], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return folder


def _kept(run: Path, task: int = 2) -> dict[str, int]:
    record = json.loads((run / f"task-{task:02d}" / "subspace.json").read_text())
    assert record["memory_bytes"] == record["kept"]["memory_bytes"]
    return record["kept"]


def _tensors(run: Path, name: str, tasks: tuple[int, ...]) -> list[torch.Tensor]:
    files = [load_file(run / f"task-{task:02d}" / f"{name}.safetensors") for task in tasks]
    return [tensor for file in files for tensor in file.values()]


def _bytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


HEADS = len(TASKS) * 3 * 10


@pytest.mark.parametrize(
    ("method", "overrides", "of_every_task", "of_newest"),
    [
        ("finetune", [], [], []),
        ("hat", [], ["gates"], []),
        ("halrp", [], ["pieces"], ["pruning"]),
        ("trgp", [], ["directions", "scaling"], ["memory"]),
        ("ness", [], [], ["covariance", "basis"]),
        ("ness", ["methods.ness.mix=2"], ["mixing"], ["covariance", "basis"]),
        ("owm", [], [], ["projector"]),
    ],
)
def test_memory_is_every_file_that_a_later_step_reads(
    tmp_path, method, overrides, of_every_task, of_newest
):
    run = _run(tmp_path / "run", method, *overrides)
    kept = _kept(run)
    every = [each for name in of_every_task for each in _tensors(run, name, TASKS)]
    newest = [each for name in of_newest for each in _tensors(run, name, TASKS[-1:])]
    assert kept["memory_bytes"] == _bytes([*every, *newest])
    assert kept["memory_bytes"] > 0 or method == "finetune"
    assert kept["image_bytes"] == 0
    assert kept["model_bytes"] == _bytes(_tensors(run, "model", TASKS[-1:]))
    own = {"gates", "pieces", "scaling", "mixing"}.intersection(of_every_task)
    numbers = sum(x.numel() for name in own for x in _tensors(run, name, TASKS))
    assert kept["task_numbers"] == HEADS + numbers


def test_what_a_task_trains_is_counted(tmp_path):
    sizes = [PIXELS * 4, 4 * 3, 3 * 10]  # two layers, and the head of the task alone
    assert _kept(_run(tmp_path / "run", "finetune"))["trained_numbers"] == sum(sizes)
    frozen = _kept(_run(tmp_path / "frozen", "gpm", 'net.adapt=["fc2"]'))
    assert frozen["trained_numbers"] == sum(sizes[1:])


def test_stored_images_are_told_from_other_numbers(tmp_path):
    kept = _kept(_run(tmp_path / "run", "er", "methods.er.memory=20"))
    assert kept["image_bytes"] == 20 * PIXELS
    assert kept["memory_bytes"] > kept["image_bytes"]  # labels


@pytest.mark.parametrize(
    ("method", "overrides", "splits"),
    [
        ("joint", [], ("train", "valid")),
        ("ness", ["methods.ness.covariance=recompute"], ("train",)),
    ],
)
def test_data_that_a_later_step_opens_counts_as_kept(tmp_path, method, overrides, splits):
    run = _run(tmp_path / "run", method, *overrides)
    tasks = json.loads((run / "stream.json").read_text())["tasks"]
    images = sum(task["splits"][split]["count"] for task in tasks for split in splits)
    assert images > 0
    kept = _kept(run)
    assert kept["image_bytes"] == images * PIXELS
    assert kept["memory_bytes"] >= kept["image_bytes"]


def test_files_removed_on_purpose_are_not_missed(tmp_path):
    run = _run(tmp_path / "run", "ness", "storage.keep=latest")
    assert not (run / "task-01" / "covariance.safetensors").exists()
    assert _kept(run) == _kept(_run(tmp_path / "all", "ness"))


def test_the_header_of_a_file_tells_what_is_in_it(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(5, dtype=torch.uint8), "c": torch.ones(())}
    tensor_files.write(path, tensors, {"kind": "x"})
    found = tensor_files.stored(path, remedy="r")
    assert sorted((own.dtype, own.num_values, own.num_bytes) for own in found) == [
        ("F32", 1, 4),
        ("F32", 6, 24),
        ("U8", 5, 5),
    ]
    for content in (b"", b"\x05", b"\x02\0\0\0\0\0\0\0[]", b'\x08\0\0\0\0\0\0\0{"a":{}}'):
        path.write_bytes(content)
        with pytest.raises(DamagedError, match="is damaged"):
            tensor_files.stored(path, remedy="r")
    with pytest.raises(InputError, match="is missing"):
        tensor_files.stored(tmp_path / "y", remedy="r")
