from __future__ import annotations

import pytest
import torch
from torch import nn

from ness_cli.errors import SettingsError
from ness_cli.nets.attention import SelfAttention


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_torchs_attention_with_the_same_gradients(bias):
    theirs = nn.MultiheadAttention(12, 3, bias=bias, batch_first=True).double()
    if bias:
        nn.init.normal_(theirs.in_proj_bias)
        nn.init.normal_(theirs.out_proj.bias)
    ours = SelfAttention.like(theirs, name="attention").double()
    x = torch.randn(4, 7, 12, dtype=torch.float64, requires_grad=True)
    expected, _ = theirs(x, x, x, need_weights=False)
    (from_theirs,) = torch.autograd.grad(expected.square().sum(), x)
    found, weights = ours(x, x, x, need_weights=False)
    (from_ours,) = torch.autograd.grad(found.square().sum(), x)
    assert weights is None
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(from_ours, from_theirs, rtol=1e-10, atol=1e-12)


def test_hooks_see_the_inputs_of_both_projections():
    attention = SelfAttention(8, 2, dropout=0.0, has_bias=True)
    seen = {}
    for name in ("in_proj", "out_proj"):
        layer = attention.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, x, name=name: seen.setdefault(name, x[0]))
    x = torch.randn(2, 5, 8)
    out, _ = attention(x, x, x)
    assert seen["in_proj"] is x
    torch.testing.assert_close(attention.out_proj(seen["out_proj"]), out)


@pytest.mark.parametrize(
    "module",
    [
        nn.MultiheadAttention(8, 2),
        nn.MultiheadAttention(8, 2, kdim=4, batch_first=True),
        nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True),
        nn.MultiheadAttention(8, 2, add_zero_attn=True, batch_first=True),
    ],
)
def test_other_kinds_of_attention_are_refused_by_name(module):
    with pytest.raises(SettingsError, match="layer block3"):
        SelfAttention.like(module, name="block3")


def test_attention_between_two_sequences_is_refused():
    attention = SelfAttention(8, 2, dropout=0.0, has_bias=True)
    x, y = torch.randn(2, 5, 8), torch.randn(2, 5, 8)
    with pytest.raises(SettingsError, match="self-attention"):
        attention(x, y, y)
