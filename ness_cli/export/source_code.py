"""The Python source of a network made of modules of torch, from a trace of its forward pass."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from torch import fx, nn

from ness_cli.errors import SettingsError

_HEADER = '''\
"""A network, described by torch alone; its weights are in model.safetensors.

    network = Network()
    network.load_state_dict(safetensors.torch.load_file("model.safetensors"))
    logits = network.eval()(images)

Images are normalised as config.json says. Written by `ness export`.
"""

import torch
from torch import nn


class Network(nn.Module):
    """Logits of normalised images, [n, channels, height, width]."""

    def __init__(self):
        super().__init__()
'''
_PUT = """
    def _put(self, name, module):
        parent = self
        *path, leaf = name.split(".")
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(leaf, module)

"""
_RELEASE = re.compile(r";  \w+(?: = \w+)* = None")  # what a trace adds to free memory early


def source_of(network: nn.Module) -> str:
    """Return the source of a class ``Network`` with the state dict of ``network``.

    Args:
        network: A network in evaluation mode without hooks; what it computes must not depend on
            values of its input.

    Raises:
        SettingsError: If its forward pass cannot be written down in terms of torch.
    """
    try:
        traced = fx.symbolic_trace(network)
    except Exception as error:  # whatever a network does with what is no tensor
        raise _not_plain(str(error).partition("\n")[0]) from error
    modules = dict(_called(traced))
    for node in traced.graph.nodes:
        node.type = None  # annotations name what the source does not import
    code = traced.graph.python_code("self")
    forward = _tidy(code.src)
    missing = network.state_dict().keys() - {
        f"{name}.{key}" for name, module in modules.items() for key in module.state_dict()
    }
    if missing:
        raise _not_plain(f"{min(missing)} is used outside of modules of torch")
    strange = {key for key in code.globals if re.search(rf"\b{key}\b", forward)} - {"torch"}
    if strange:
        raise _not_plain(f"it calls {min(strange)}")
    lines = [
        f'        self._put("{name}", nn.{_constructor(module)})\n'
        for name, module in modules.items()
    ]
    return _HEADER + "".join(lines) + _PUT + textwrap.indent(forward, "    ")


def _called(traced: fx.GraphModule) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that a forward pass calls, by name, each as often as it is called."""
    for node in traced.graph.nodes:
        if node.op == "call_module":
            yield node.target, traced.get_submodule(node.target)


def _constructor(module: nn.Module) -> str:
    """Return what makes a module of torch, but for its values."""
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        # What it shows of itself has arguments that earlier releases of torch do not know.
        return f"{type(module).__name__}({module.num_features}, eps={module.eps!r})"
    return repr(module)


def _tidy(code: str) -> str:
    """Return the source of a forward pass without annotations and early releases."""
    code = _RELEASE.sub("", code).strip() + "\n"
    return re.sub(r"def forward\(self, x.*:\n", "def forward(self, x):\n", code, count=1)


def _not_plain(reason: str) -> SettingsError:
    return SettingsError(
        "--to torch: the forward pass of this network cannot be written in terms of torch:"
        f" {reason}",
        "export it with --to pt2 or --to onnx",
    )
