"""Weights for torch alone, and for torchvision and timm as these have them."""

from __future__ import annotations

import json
import re

import pytest
import torch
from export.exported import make_subject, run_without_ness
from factory import VIT
from safetensors.torch import load_file, save_file

from ness_cli.errors import SettingsError
from ness_cli.export.formats.torch import Torch

RESNET = {
    "name": "torchvision",
    "model": "ResNet",
    "arguments": {"block": "BasicBlock", "layers": [1, 1, 1, 1]},
}
TIMM = {
    "name": "timm",
    "model": "resnet10t",
    "arguments": {"channels": [4, 4, 8, 8], "stem_width": 4},
}
SMALL = (3, 32, 32)
NETS = {
    "mlp": ({"name": "mlp", "hidden": [12, 10], "batch_norm": True, "biases": True}, (1, 4, 4)),
    "alexnet": ({"name": "alexnet", "width": 0.05}, SMALL),
    "lenet": ({"name": "lenet"}, SMALL),
    "resnet18": ({"name": "resnet18", "width": 2}, SMALL),
    "ResNet": (RESNET, SMALL),
    "VisionTransformer": (VIT | {"prompts": 0}, (3, 8, 8)),
    "timm": (TIMM, SMALL),
}
PROGRAM = """
import os, re, sys
import torch
from safetensors.torch import load_file
for folder in sys.argv[1:]:
    os.chdir(folder)
    sys.path[0] = folder
    sys.modules.pop("network", None)
    code = re.search("```python\\n(.*?)```", open("usage.md").read(), re.S).group(1)
    names = {"images": load_file("expected.st")["images"]}
    with torch.no_grad():
        exec(code, names)
    torch.testing.assert_close(
        names["logits"], load_file("expected.st")["logits"], rtol=1e-5, atol=1e-5
    )
"""


def _write(subject, folder):
    folder.mkdir(exist_ok=True)
    form = Torch()
    form.write(subject, folder)
    (folder / "usage.md").write_text(form.usage(subject))
    images, logits = subject.normalised(subject.task), subject.logits(subject.task)
    save_file({"images": images, "logits": logits}, folder / "expected.st")


@pytest.mark.parametrize(
    ("name", "affine"), [*((name, "per-task") for name in NETS), ("mlp", "frozen")]
)
def test_a_network_made_from_the_files_has_the_logits_of_the_run(name, affine, tmp_path):
    net, shape = NETS[name]
    if name == "timm":
        pytest.importorskip("timm")
    subject = make_subject(1, net=net, shape=shape, norm={"affine": affine})
    Torch().write(subject, tmp_path)
    theirs = Torch().logits(subject, tmp_path, 1)
    torch.testing.assert_close(theirs, subject.logits(1), rtol=1e-5, atol=1e-5)


def test_what_the_card_says_works_where_this_package_is_not(processes, tmp_path):
    pytest.importorskip("timm")
    names = ["mlp", "resnet18", "ResNet", "VisionTransformer", "timm"]
    for name in names:
        net, shape = NETS[name]
        _write(make_subject(net=net, shape=shape), tmp_path / name)
    run_without_ness(processes, PROGRAM, *(tmp_path / name for name in names))


def test_only_the_task_that_was_asked_for_leaves(tmp_path):
    subject = make_subject(1, net=NETS["mlp"][0])
    Torch().write(subject, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    with subject.view(1) as model:
        assert torch.equal(tensors["head.weight"], model.head(1).weight)
        assert torch.equal(
            tensors["backbone.norm1.running_mean"], model.norms()[0].mean.get_buffer("1")
        )
    assert not [name for name in tensors if re.search(r"heads|mean\.2", name)]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["classes"] == ["one", "two", "three"]
    assert config["preprocessing"]["mean"] == [0.5]


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"net": NETS["mlp"][0], "norm": {"statistics": "batch"}}, "norm.statistics=batch"),
        ({"net": VIT}, "prompts"),
        ({"method": {"name": "hat"}}, "what hat adds"),
    ],
    ids=["batch statistics", "prompts", "gates"],
)
def test_what_weights_do_not_hold_is_refused_by_name(sections, words, tmp_path):
    with pytest.raises(SettingsError, match=words):
        Torch().write(make_subject(**sections), tmp_path)
    assert not list(tmp_path.iterdir())
