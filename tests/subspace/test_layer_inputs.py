from __future__ import annotations

import pytest
import torch
from torch import nn

from ness_cli.subspace.layer_inputs import calling_between_layers, chunks_of_rows
from ness_cli.subspace.layer_view import LayerView


class _Input:
    """An input of a layer as far as dividing it into chunks looks at it."""

    def __init__(self, x: torch.Tensor, kind: str) -> None:
        self.x, self.device, self.shape = x, torch.device(kind), x.shape

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, where: slice) -> torch.Tensor:
        return self.x[where]


@pytest.mark.parametrize(("kind", "most_bytes"), [("cpu", 8 * 2**20), ("cuda", 256 * 2**20)])
def test_chunks_are_as_large_as_the_device_likes(kind, most_bytes, monkeypatch):
    view = LayerView("conv", nn.Conv2d(16, 4, 3, bias=False))
    monkeypatch.setattr(LayerView, "rows", lambda self, x: x)  # nothing is unfolded here
    x = torch.empty(5000, 16, 10, 10)
    sizes = [len(chunk) for chunk in chunks_of_rows(view, _Input(x, kind))]
    assert sum(sizes) == 5000
    per_image = 8 * 64 * view.dim  # 64 positions
    assert max(sizes) == most_bytes // per_image
    assert len(sizes) == -(-5000 // max(sizes))


def test_a_call_that_raises_ends_a_forward_pass_at_the_next_layer():
    seen, net = [], nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))
    for layer in (net[0], net[1][1]):
        layer.register_forward_hook(lambda layer, *_: seen.append(layer))
    x = torch.ones(1, 2)

    def stop():
        if seen:
            raise InterruptedError

    with calling_between_layers(net, stop), pytest.raises(InterruptedError):
        net(x)
    assert seen == [net[0]]
    net(x)  # nothing is left behind
    assert len(seen) == 3
