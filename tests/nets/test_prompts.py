"""Prompts in the attention blocks of a vision transformer."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ness_cli.errors import SettingsError
from ness_cli.nets.build import build_model
from ness_cli.settings.nets.torchvision import Options
from ness_cli.settings.sections import NormSettings

VIT = {
    "model": "VisionTransformer",
    "arguments": {
        "patch_size": 4,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "mlp_dim": 16,
    },
}


def _build(prompts, **options):
    torch.manual_seed(0)
    options = Options.model_validate({**VIT, **options, "prompts": prompts})
    return build_model(options, NormSettings(), (3, 8, 8)).backbone.eval()


def _block(block, x, tokens):
    """One block of the transformer by hand: image tokens ``[length, width]``, prompts behind."""
    attention = block.self_attention
    together = functional.layer_norm(
        torch.cat([x, tokens]), (8,), block.ln_1.weight, block.ln_1.bias, block.ln_1.eps
    )
    q, k, v = attention.in_proj(together).chunk(3, dim=-1)
    heads = []
    for own in (slice(0, 4), slice(4, 8)):
        weights = (q[: len(x), own] @ k[:, own].T / 2).softmax(dim=-1)
        heads.append(weights @ v[:, own])
    x = x + attention.out_proj(torch.cat(heads, dim=1))
    return x + block.mlp(block.ln_2(x))


def test_tokens_attend_to_prompts_which_are_then_dropped():
    net = _build(3)
    encoder = net.model.encoder
    image = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        patches = net.model.conv_proj(image).flatten(2).transpose(1, 2)[0]
        x = torch.cat([net.model.class_token[0], patches]) + encoder.pos_embedding[0]
        for block, tokens in zip(encoder.layers, net.prompts.tokens, strict=True):
            x = _block(block, x, tokens)
        expected = encoder.ln(x)[0]
        torch.testing.assert_close(net(image)[0], expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(net(image)[0], _build(0)(image)[0], atol=1e-3)


def test_prompts_are_parameters_between_minus_one_and_one():
    net = _build(50)
    names = [name for name, _ in net.named_parameters() if name.startswith("prompts.")]
    assert names == ["prompts.tokens.0", "prompts.tokens.1"]
    for tokens in net.prompts.tokens:
        assert tokens.shape == (50, 8)
        assert -1 <= tokens.min().item() < -0.9
        assert 0.9 < tokens.max().item() <= 1
    net(torch.randn(2, 3, 8, 8))[:, 0].sum().backward()
    assert all(tokens.grad.abs().sum() > 0 for tokens in net.prompts.tokens)


def test_without_prompts_nothing_is_drawn_or_named():
    without = _build(0)
    assert without.prompts is None
    assert not any("prompts" in name for name in without.state_dict())


def test_a_network_without_attention_takes_none():
    with pytest.raises(SettingsError, match=r"net\.prompts: resnet18 has no attention blocks"):
        _build(2, model="resnet18", arguments={})
