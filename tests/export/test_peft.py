"""Updates as LoRA adapters."""

from __future__ import annotations

import json

import pytest
import torch
from export.exported import make_subject, run_without_ness
from safetensors.torch import load_file, save_file

from ness_cli.errors import SettingsError
from ness_cli.export.formats.peft import Peft, adapter, factorised
from ness_cli.vision_libraries import import_torchvision

ALEXNET = {"net": {"name": "alexnet", "width": 0.05}, "shape": (3, 32, 32)}
RESNET = {"net": {"name": "resnet18", "width": 2}, "shape": (3, 32, 32)}
PROGRAM = """
import os, re, sys
import torch
from safetensors.torch import load_file
for folder in sys.argv[1:]:
    os.chdir(folder)
    sys.modules.pop("network", None)
    code = re.search("```python\\n(.*?)```", open("usage.md").read(), re.S).group(1)
    names = {"images": load_file("expected.st")["images"]}
    with torch.no_grad():
        exec(code.replace('"base"', repr(folder + "/base"), 1), names)
        merged = names["model"].merge_and_unload()(names["images"])
    for found in (names["logits"], merged):
        torch.testing.assert_close(found, load_file("expected.st")["logits"], rtol=1e-5, atol=1e-5)
"""


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (5, 2, 3, 3)])
def test_the_factors_of_a_change_are_exact_and_as_few_as_its_rank(shape):
    out, d = shape[0], int(torch.Size(shape[1:]).numel())
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (out, d))
    change = (left @ right.T).reshape(shape)
    a, b = factorised(change, 1e-3)
    assert len(a) == b.shape[1] == 3
    found = (b.double().flatten(1) @ a.double().flatten(1)).reshape(shape)
    torch.testing.assert_close(found, change, rtol=1e-5, atol=1e-5)


def test_what_did_not_change_has_no_factors():
    a, b = factorised(torch.zeros(4, 5, dtype=torch.float64), 0.0)
    assert a.shape == (0, 5)
    assert b.shape == (4, 0)
    with pytest.raises(SettingsError, match="nothing"):
        adapter({"fc1": (a, b)}, one_rank=False)


def test_layers_whose_names_end_alike_keep_ranks_of_their_own():
    ranks = {"conv1": 2, "layer1.0.conv1": 3}
    factors = {name: factorised(_rank(r), 1.0) for name, r in ranks.items()}
    config, tensors = adapter(factors, one_rank=False)
    assert config["rank_pattern"] == {"^conv1": 2, r"^layer1\.0\.conv1": 3}
    assert config["alpha_pattern"] == config["rank_pattern"]
    padded, wide = adapter(factors, one_rank=True)
    assert padded["rank_pattern"] == {}
    assert padded["r"] == padded["lora_alpha"] == 3
    assert {len(t) for name, t in wide.items() if "lora_A" in name} == {3}
    assert len(tensors["base_model.model.conv1.lora_A.weight"]) == 2


def _rank(r):
    return torch.diag((torch.arange(5) < r).double())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return adapters of a plain network and of one of torchvision, with what they must compute."""
    import_torchvision()
    pytest.importorskip("peft")
    top = tmp_path_factory.mktemp("peft")
    torchvision = {
        "net": {
            "name": "torchvision",
            "model": "ResNet",
            "arguments": {"block": "BasicBlock", "layers": [1, 1, 1, 1]},
        },
        "shape": (3, 32, 32),
    }
    made = {}
    for name, sections, one_rank in (
        ("patterns", RESNET, False),
        ("one-rank", ALEXNET, True),
        ("torchvision", torchvision, False),
    ):
        subject, form = make_subject(3, num_tasks=3, **sections), Peft(one_rank=one_rank)
        folder = top / name
        folder.mkdir()
        form.write(subject, folder)
        (folder / "usage.md").write_text(form.usage(subject))
        expected = {"images": subject.normalised(3), "logits": subject.logits(3)}
        save_file(expected, folder / "expected.st")
        made[name] = (subject, form, folder)
    return made


def test_base_and_adapter_have_the_logits_of_the_run_where_this_package_is_not(processes, folders):
    run_without_ness(processes, PROGRAM, *(folder for _, _, folder in folders.values()))


def test_the_check_reads_what_was_written(folders):
    subject, form, folder = folders["patterns"]
    found = form.logits(subject, folder, 3)
    torch.testing.assert_close(found, subject.logits(3), rtol=1e-5, atol=1e-5)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    tensors = load_file(folder / "adapter_model.safetensors")
    assert "base_model.model.head.weight" in tensors


def test_what_an_adapter_does_not_hold_is_refused_by_name(tmp_path):
    with pytest.raises(SettingsError, match="task 1 is the base"):
        Peft().write(make_subject(1), tmp_path)
    with pytest.raises(SettingsError, match="what hat adds"):
        Peft().write(make_subject(method={"name": "hat"}), tmp_path)
    assert not list(tmp_path.iterdir())
