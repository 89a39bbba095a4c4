"""Every network goes through the whole chain on images, and its updates add up to its weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from factory import dense_update
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.engine.checkpoint import CheckpointFile

NARROW_VIT = (
    "model: VisionTransformer, arguments: {patch_size: 4, num_layers: 2, num_heads: 2,"
    " hidden_dim: 8, mlp_dim: 16}"
)
NARROW_RESNET = (
    "model: ResNet, arguments: {block: Bottleneck, layers: [1, 1, 1, 1], width_per_group: 4}"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for label, name in enumerate("abcd"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
                pixels[label * 4 : label * 4 + 4] += 100
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


NETS = {
    "alexnet": "{name: alexnet, width: 0.05}",
    "lenet": "{name: lenet}",
    "resnet18": "{name: resnet18, width: 2}",
    "mlp": "{name: mlp, hidden: [8], batch_norm: true, dropout: 0.2}",
    "mlp-augmented": "{name: mlp, hidden: [8], biases: true, bias: augmented}",
    "vit": f"{{name: torchvision, {NARROW_VIT}}}",
    "vit-augmented": f"{{name: torchvision, {NARROW_VIT}, bias: augmented}}",
    "bottleneck": f"{{name: torchvision, {NARROW_RESNET}, adapt: ['*layer*']}}",
}
# One of each kind of layer: convolutions, blocks, attention, with biases in the matrix.
OTHERS = {"ness-bounded": ("lenet", "mlp-augmented", "vit"), "gpm": ("resnet18", "vit-augmented")}


def _cases():
    for method in ("ness", *OTHERS):
        for net in NETS:
            marks = [] if net in OTHERS.get(method, NETS) else [pytest.mark.slow]
            yield pytest.param(method, NETS[net], marks=marks, id=f"{method}-{net}")


@pytest.mark.parametrize(("method", "net"), [*_cases()])
def test_two_tasks_of_images_through_all_steps(net, method, images, tmp_path):
    preset, out = tmp_path / "p.yaml", tmp_path / "run"
    preset.write_text(
        f"data: {{source: image-folder, path: {images}, classes_per_task: 2}}\n"
        f"net: {net}\nmethod: {{name: {method.partition('-')[0]}}}\n"
        "train: {epochs: 2, batch_size: 8}\n"
        f"methods: {{ness: {{eps1: 0.01, scaling: {'bounded' if '-' in method else 'hard'}}}}}\n"
    )
    arguments = ["run", "--preset", str(preset), "--out", str(out), "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    (run,) = json.loads(result.stdout)["report"]["runs"]
    assert run["tasks_done"] == 2
    if method != "gpm":
        first, second = (load_file(out / f"task-0{t}" / "model.safetensors") for t in (1, 2))
        basis = load_file(out / "task-01" / "basis.safetensors")
        update = load_file(out / "task-02" / "update.safetensors")
        trained = set()
        for layer in (key.removesuffix(".V") for key in update):
            names = [f"backbone.{layer}.weight"]
            change = dense_update(basis, update, layer)
            if change.shape[1] > first[names[0]][0].numel():
                names.append(f"backbone.{layer}.bias")
            trained.update(names)
            before, after = (
                torch.cat(
                    [
                        model[name].flatten(1) if model[name].ndim > 1 else model[name][:, None]
                        for name in names
                    ],
                    dim=1,
                )
                for model in (first, second)
            )
            assert torch.equal((before.double() + change).float(), after)
        # Nothing else of the backbone has moved, and what was frozen is listed.
        frozen = json.loads((out / "task-01" / "subspace.json").read_text())["frozen"]
        for key, value in first.items():
            own = ".".join(key.split(".")[1:])
            if key.startswith("backbone.") and key not in trained:
                assert torch.equal(value, second[key]), key
                assert own in frozen or ".mean." in key or ".variance." in key


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vit_b_16", "resnet50"])
def test_full_size_models_through_all_steps(model, images, tmp_path):
    preset, out = tmp_path / "p.yaml", tmp_path / "run"
    preset.write_text(
        f"data: {{source: image-folder, path: {images}, classes_per_task: 2, size: 32}}\n"
        f"net: {{name: torchvision, model: {model}}}\ntrain: {{epochs: 1, batch_size: 8}}\n"
        "storage: {keep: latest}\n"
    )
    result = CliRunner().invoke(
        app, ["run", "--preset", str(preset), "--out", str(out), "--json"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.stderr
    (run,) = json.loads(result.stdout)["report"]["runs"]
    assert run["tasks_done"] == 2


def _two_tasks(images, out, *overrides):
    """Make a run of two tasks and return its last model."""
    preset = out.parent / "layout.yaml"
    preset.write_text(
        f"data: {{source: image-folder, path: {images}, classes_per_task: 2}}\n"
        "net: {name: alexnet, width: 0.1, dropout: [0.0, 0.0]}\n"
        "train: {epochs: 2, batch_size: 8, lr: 0.005}\nnorm: {statistics: task}\n"
        "checkpoint: {seconds: 0}\n"
    )
    arguments = ["run", "--preset", str(preset), "--out", str(out), *overrides]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    return load_file(out / "task-02" / "model.safetensors")


def test_channels_last_is_the_same_training_to_rounding(images, tmp_path):
    plain = _two_tasks(images, tmp_path / "plain", "compute.channels_last=false")
    other = _two_tasks(images, tmp_path / "other")
    record = json.loads((tmp_path / "other/task-02/train.json").read_text())
    assert record["compute"]["channels_last"] is True
    assert plain.keys() == other.keys()
    for name, tensor in plain.items():
        assert other[name].is_contiguous()
        torch.testing.assert_close(other[name], tensor, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "override",
    ["compute.channels_last=false", "compute.precision=bf16", "compute.determinism=seeded"],
)
def test_stopped_in_a_task_it_goes_on_with_the_same_bits_whatever_the_options(
    images, tmp_path, override, monkeypatch
):
    whole = _two_tasks(images, tmp_path / "whole", override)
    saves = 0
    save = CheckpointFile.save

    def stop_after_saving(self, tensors, state):
        nonlocal saves
        save(self, tensors, state)
        saves += 1
        if saves == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(CheckpointFile, "save", stop_after_saving)
    with pytest.raises(AssertionError):
        _two_tasks(images, tmp_path / "stopped", override)
    assert (tmp_path / "stopped" / "task-01" / "checkpoint.safetensors").exists()
    resumed = _two_tasks(images, tmp_path / "stopped", override)
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor)
