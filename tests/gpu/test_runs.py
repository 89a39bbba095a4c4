"""Runs on a device: the same bits twice, after a stop, and put together again on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from factory import dense_update
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli import registry
from ness_cli.cli.app import app
from ness_cli.engine.checkpoint import CheckpointFile
from ness_cli.nets.build import BACKBONES

pytestmark = pytest.mark.gpu

SMALL = ["data.classes_per_task=2", "train.epochs=2", "train.batch_size=16", "train.lr=0.01"]
# What a network needs beside its name; a new one is taken up with its defaults.
NETS = {
    "alexnet": [["net.width=0.1"], ["net.width=0.1", "net.bias=augmented"]],
    "lenet": [[]],
    "mlp": [["net.hidden=[64, 64]", "net.dropout=0.2", "net.batch_norm=true"]],
    "resnet18": [["net.width=4"]],
    "torchvision": [
        [
            "net.model=ResNet",
            "net.arguments={block: Bottleneck, layers: [1, 1, 1, 1], width_per_group: 4}",
        ],
        [
            "net.model=VisionTransformer",
            "net.arguments={patch_size: 8, num_layers: 1, num_heads: 2, hidden_dim: 8, mlp_dim: 8}",
        ],
    ],
}
# Small enough for the compiler to be done with in seconds.
MLP = ("net.name=mlp", "net.hidden=[64, 64]", "net.batch_norm=true")
CASES = [(name, options) for name in registry.names(BACKBONES) for options in NETS.get(name, [[]])]


def _run(device: torch.device, images: Path, out: Path, *overrides: str):
    arguments = ["run", "--out", str(out), "--device", device.type, "data.source=image-folder"]
    arguments += [f"data.path={images}", *SMALL, *overrides]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def _good(device: torch.device, images: Path, out: Path, *overrides: str) -> dict[str, bytes]:
    """Make a run and return the bytes of its tensor files."""
    result = _run(device, images, out, *overrides)
    assert result.exit_code == 0, result.stderr
    files = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("task-*/*.safetensors")}
    assert files
    return files


@pytest.mark.parametrize(
    ("net", "options"), CASES, ids=[f"{name}-{i}" for i, (name, _) in enumerate(CASES)]
)
def test_every_network_gives_the_same_bytes_twice(device, images, tmp_path, net, options):
    overrides = (f"net.name={net}", *options)
    first = _good(device, images, tmp_path / "a", *overrides)
    assert _good(device, images, tmp_path / "b", *overrides) == first
    record = json.loads((tmp_path / "a" / "task-02" / "train.json").read_text())
    assert (record["compute"]["determinism"], record["notes"]) == ("strict", [])


@pytest.mark.parametrize("method", ["ness", "gpm", "sgp", "finetune", "joint"])
def test_every_method_gives_the_same_bytes_twice(device, images, tmp_path, method):
    overrides = ("net.name=alexnet", "net.width=0.1", f"method.name={method}")
    first = _good(device, images, tmp_path / "a", *overrides)
    assert _good(device, images, tmp_path / "b", *overrides) == first


@pytest.mark.parametrize("scaling", ["hard", "bounded"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_model_put_together_on_the_cpu_has_the_bits_that_the_device_saved(
    device, images, tmp_path, scaling, optimizer
):
    out = tmp_path / "run"
    settings = (f"methods.ness.scaling={scaling}", f"train.optimizer={optimizer}")
    _good(device, images, out, "net.name=alexnet", "net.width=0.1", *settings)
    for task_number in (2, 3):
        before, after = (
            load_file(out / f"task-{task:02d}" / "model.safetensors")
            for task in (task_number - 1, task_number)
        )
        basis = load_file(out / f"task-{task_number - 1:02d}" / "basis.safetensors")
        update = load_file(out / f"task-{task_number:02d}" / "update.safetensors")
        for layer in (key.removesuffix(".V") for key in update):
            weight = before[f"backbone.{layer}.weight"]
            change = dense_update(basis, update, layer).reshape(weight.shape)
            recomposed = (weight.double() + change).float()
            assert torch.equal(recomposed, after[f"backbone.{layer}.weight"]), layer


@pytest.mark.parametrize(
    "overrides",
    [
        ("net.name=alexnet", "net.width=0.1", "compute.precision=fp32"),
        ("net.name=alexnet", "net.width=0.1", "compute.precision=tf32"),
        ("net.name=alexnet", "net.width=0.1", "compute.precision=bf16"),
        ("net.name=alexnet", "net.width=0.1", "compute.channels_last=true"),
        (*MLP, "compute.compile=on"),
    ],
    ids=lambda overrides: overrides[-1],
)
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own insides
def test_stopped_in_a_task_it_goes_on_with_the_same_bytes(
    device, images, tmp_path, overrides, monkeypatch
):
    overrides = (*overrides, "checkpoint.seconds=0")
    whole = _good(device, images, tmp_path / "whole", *overrides)
    saves, save = 0, CheckpointFile.save

    def stop_after_saving(self, tensors, state):
        nonlocal saves
        save(self, tensors, state)
        saves += 1
        if saves in (2, 7):  # once in each task
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFile, "save", stop_after_saving)
    for _ in range(2):
        assert _run(device, images, tmp_path / "stopped", *overrides).exit_code == 130
    assert _good(device, images, tmp_path / "stopped", *overrides) == whole


@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own insides
def test_compiled_and_replayed_as_graphs_it_learns_what_the_plain_steps_learn(
    device, images, tmp_path
):
    losses = {}
    for choice in ("off", "on"):
        out = tmp_path / choice
        _good(device, images, out, *MLP, f"compute.compile={choice}")
        losses[choice] = [
            json.loads(line)["train_loss"]
            for task in ("task-01", "task-02")
            for line in (out / task / "history.jsonl").read_text().splitlines()
        ]
    # Kernels are fused and round otherwise; ten steps at this rate spread it a little.
    assert losses["on"] == pytest.approx(losses["off"], rel=1e-2)
    assert len(losses["off"]) == 4


def test_images_in_main_memory_give_the_bytes_of_images_on_the_device(
    device, images, tmp_path, monkeypatch
):
    overrides = ("net.name=alexnet", "net.width=0.1")
    resident = _good(device, images, tmp_path / "resident", *overrides)
    monkeypatch.setattr("ness_cli.data.image_budget.ImageBudget.take", lambda *_: False)
    assert _good(device, images, tmp_path / "streamed", *overrides) == resident
