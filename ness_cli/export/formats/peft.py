"""``peft``: what later tasks added to the network after task 1, as a LoRA adapter of PEFT.

W_T = W_1 + B A for every layer, by a thin singular value decomposition W_T - W_1 = P S Q^T in
float64: A = sqrt(S) Q^T and B = P sqrt(S), of its numerical rank. PEFT adds (alpha / r) B A; alpha
is r everywhere. A convolution is its matrix ``[out, c kh kw]``: A becomes a convolution of r
channels, B one of 1 x 1. Head and batch norm are saved whole.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ness_cli.errors import SettingsError
from ness_cli.export.formats.base_network import NetworkFormat
from ness_cli.export.library_model import as_library_model
from ness_cli.export.network_files import config_of, making, read_network, write_network
from ness_cli.export.plain_network import PlainNetwork, plain_network
from ness_cli.export.subject import Subject
from ness_cli.files import write_bytes, write_json
from ness_cli.nets.backbones.base_converted import ConvertedModel
from ness_cli.vision_libraries import import_torchvision

BASE = "base"
_PREFIX = "base_model.model."
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Peft(NetworkFormat):
    """``adapter_config.json``, ``adapter_model.safetensors``; in ``base`` the network of task 1."""

    libraries = ("peft",)
    is_of_its_task = True
    has_ranks = True

    def write(self, subject: Subject, folder: Path) -> None:
        """Write them; errors as in the base class."""
        if subject.task == 1:
            raise SettingsError(
                "--to peft: task 1 is the base, which nothing was added to",
                "name a later task, or export task 1 with --to torch",
            )
        self.refuse_hooks(subject)
        with subject.usable(self.name) as model:
            now = plain_network(model, subject.normalised(subject.task))
        with subject.first_view(1) as model:
            first = plain_network(model, subject.normalised(subject.task))
        (folder / BASE).mkdir()
        write_network(first, folder / BASE, config_of(subject))
        before, after = _library(first), _library(now)
        factors = {
            name: factorised(change, float(before.get_parameter(f"{name}.weight").abs().max()))
            for name, change in _changes(before, after, head=_head_name(before, first)).items()
        }
        saved = [_head_name(after, now), *(n for n, m in after.named_modules() if _is_norm(m))]
        config, tensors = adapter(factors, one_rank=self.one_rank)
        config["modules_to_save"] = saved
        for name in saved:
            for key, value in after.get_submodule(name).state_dict().items():
                tensors[f"{_PREFIX}{name}.{key}"] = value.contiguous().clone()
        write_bytes(folder / "adapter_model.safetensors", save(tensors, metadata={"format": "pt"}))
        write_json(folder / "adapter_config.json", config)

    def logits(self, subject: Subject, folder: Path, task_number: int) -> torch.Tensor:
        """Return the logits of the base with the adapter, by PEFT."""
        import_torchvision()  # which PEFT imports by way of others, and could not everywhere
        from peft import PeftModel  # takes seconds that other formats need not wait

        with subject.first_view(1) as model:
            base = read_network(folder / BASE, model.backbone, model.head(1).out_features)
            plain = plain_network(model, subject.normalised(subject.task))
        name = _head_name(base, plain)
        head = base.get_submodule(name)
        assert isinstance(head, nn.Linear)
        base.set_submodule(name, _head_like(head, subject.info.num_classes))
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            adapted: nn.Module = PeftModel.from_pretrained(base, str(folder)).eval()
            found: torch.Tensor = adapted(subject.normalised(task_number))
        return found

    def usage(self, subject: Subject) -> str:
        """Return how to put the adapter on the base."""
        with subject.first_view(1) as model:
            maker, imports = making(model.backbone, model.head(1).out_features)
            plain = plain_network(model, subject.normalised(subject.task))
        network = _library(plain)
        name = _head_name(network, plain)
        head = network.get_submodule(name)
        assert isinstance(head, nn.Linear)
        bias = head.bias is not None
        path = 'sys.path.insert(0, "base")\n' if "network import" in imports else ""
        return (
            f"```python\nimport sys\n{path}{imports}\nimport torch\nfrom peft import PeftModel\n"
            "from safetensors.torch import load_file\n\n"
            f'base = {maker}\nbase.load_state_dict(load_file("base/model.safetensors"))\n'
            f'base.set_submodule("{name}", torch.nn.Linear({head.in_features},'
            f" {subject.info.num_classes}, bias={bias}))\n"
            'model = PeftModel.from_pretrained(base, ".").eval()\n'
            "logits = model(images)\n```\n\n"
            "`base` is the network after task 1; the adapter is what tasks 2 to"
            f" {subject.task} added, with the head and batch norm of task {subject.task}. Trained"
            " on in PEFT it forgets: both factors move, and nothing protects earlier tasks."
        )

    def needs(self, subject: Subject) -> tuple[str, ...]:
        """Return what must be installed."""
        return ("peft", *super().needs(subject))


# -- the adapter -------------------------------------------------------------------------------


def factorised(change: torch.Tensor, size: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A ``[r, ...]`` and B ``[out, r]`` (``[out, r, 1, 1]``), float32, with B A = change.

    Both matrices of a difference were rounded to float32; a singular value that the rounding of
    one of its entries explains is none of the update's. O(out d min(out, d)) time.

    Args:
        change: What was added, ``[out, d]`` or ``[out, c, kh, kw]`` float64.
        size: The largest absolute value among the weights that it was added to.
    """
    p, s, qt = torch.linalg.svd(change.flatten(1), full_matrices=False)
    rank = int((s > size * torch.finfo(torch.float32).eps / 2).sum())
    root = s[:rank].sqrt()
    a, b = root[:, None] * qt[:rank], p[:, :rank] * root
    if change.dim() == 4:
        a, b = a.reshape(rank, *change.shape[1:]), b[:, :, None, None]
    return a.float().contiguous(), b.float().contiguous()


def adapter(
    factors: dict[str, tuple[torch.Tensor, torch.Tensor]], *, one_rank: bool
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the configuration of an adapter and its tensors.

    Args:
        factors: A and B of every layer, by its name; layers that nothing was added to have rank 0.
        one_rank: Pad all to the largest rank with zeros.

    Raises:
        SettingsError: If nothing was added to any layer.
    """
    factors = {name: (a, b) for name, (a, b) in factors.items() if len(a)}
    if not factors:
        raise SettingsError("--to peft: later tasks added nothing to any layer", "use --to torch")
    most = max(len(a) for a, _ in factors.values())
    if one_rank:
        factors = {name: _padded(a, b, most) for name, (a, b) in factors.items()}
    # Anchored: a bare name would be every layer's whose name ends in it.
    ranks = {f"^{re.escape(name)}": len(a) for name, (a, _) in factors.items()}
    patterns = {} if one_rank else ranks
    tensors = {}
    for name, (a, b) in factors.items():
        tensors[f"{_PREFIX}{name}.lora_A.weight"] = a
        tensors[f"{_PREFIX}{name}.lora_B.weight"] = b
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": most,
        "lora_alpha": most,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": f"^({'|'.join(map(re.escape, factors))})$",
        "rank_pattern": patterns,
        "alpha_pattern": patterns,
    }
    return config, tensors


def _padded(a: torch.Tensor, b: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    wide_a = a.new_zeros(rank, *a.shape[1:])
    wide_b = b.new_zeros(len(b), rank, *b.shape[2:])
    wide_a[: len(a)] = a
    wide_b[:, : len(a)] = b
    return wide_a, wide_b


# -- what changed ------------------------------------------------------------------------------


def _changes(before: nn.Module, after: nn.Module, *, head: str) -> dict[str, torch.Tensor]:
    """Return what was added to the weight of every layer that changed, float64.

    Raises:
        SettingsError: If something changed that a LoRA adapter does not hold.
    """
    found = {}
    for name, module in after.named_modules():
        if name == head or _is_norm(module):
            continue
        old = before.get_submodule(name)
        for key, value in module.named_parameters(recurse=False):
            change = value.detach().double() - old.get_parameter(key).detach().double()
            if not bool(change.any()):
                continue
            _refuse_unheld(name, module, key)
            found[name] = change
    return found


def _refuse_unheld(name: str, module: nn.Module, key: str) -> None:
    """Refuse a changed parameter that no LoRA layer of PEFT adds to as it should."""
    what = ""
    if key != "weight" or type(module) not in (nn.Linear, nn.Conv2d):
        what = f"{name}.{key}, which is no weight of a linear layer or convolution, changed"
    elif isinstance(module, nn.Conv2d):
        plain = {"groups": 1, "dilation": (1, 1), "padding_mode": "zeros"}
        odd = [k for k, usual in plain.items() if getattr(module, k) != usual]
        what = f"layer {name} has {odd[0]}={getattr(module, odd[0])}" if odd else ""
    if what:
        raise SettingsError(f"--to peft: {what}", "export it with --to torch")


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _NORMS)


def _library(plain: PlainNetwork) -> nn.Module:
    """Return the network that ``write_network`` writes."""
    return as_library_model(plain) if isinstance(plain.backbone, ConvertedModel) else plain


def _head_name(network: nn.Module, plain: PlainNetwork) -> str:
    """Return the name of the classifier in the network that is written."""
    if not isinstance(plain.backbone, ConvertedModel):
        return "head"
    ours = dict(plain.backbone.model.named_modules())
    found: str = next(
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and not isinstance(ours.get(name), nn.Linear)
    )
    return found


def _head_like(head: nn.Linear, num_classes: int) -> nn.Linear:
    return nn.Linear(head.in_features, num_classes, bias=head.bias is not None)
