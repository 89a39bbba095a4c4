"""Models of timm as backbones."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ness_cli.console import Progress
from ness_cli.errors import MissingFilesError, SettingsError, SystemRefusedError
from ness_cli.nets import pretrained
from ness_cli.nets.build import build_model
from ness_cli.nets.norm import TaskNorm
from ness_cli.settings.nets.timm import Options
from ness_cli.settings.sections import NormSettings
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.layer_view import adapted_layers
from ness_cli.vision_libraries import import_timm

needs_timm = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed"
)
VIT = {
    "model": "vit_tiny_patch16_224",
    "arguments": {"patch_size": 4, "depth": 2, "embed_dim": 16, "num_heads": 2},
}
RESNET = {"model": "resnet18", "arguments": {"layers": [1, 1, 1, 1]}}


def _vit(**more):
    """A vision transformer with prompts that is no plain one."""
    return {**VIT, "arguments": {**VIT["arguments"], **more}, "prompts": 2}


def _build(shape=(3, 8, 8), weights=None, **options):
    torch.manual_seed(0)
    return build_model(Options.model_validate(options), NormSettings(), shape, weights)


def _original(options, **arguments):
    model = import_timm().create_model(
        options["model"], pretrained=False, num_classes=5, **options["arguments"], **arguments
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


@needs_timm
@pytest.mark.parametrize(("options", "more"), [(VIT, {"img_size": 8}), (RESNET, {})])
def test_the_backbone_computes_what_timms_model_computes(options, more):
    original = _original(options, **more)
    model = _build(weights=original.state_dict(), **options)
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    original.double().train()  # batch statistics, as before any are stored
    with torch.no_grad():
        expected = original.forward_head(original.forward_features(x), pre_logits=True)
        found = model.backbone.double().train()(x)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    assert model.num_features == expected.shape[1]


@needs_timm
def test_a_norm_that_also_activates_keeps_its_activation():
    model = _build((3, 32, 32), model="mobilenetv2_050")
    original = import_timm().create_model("mobilenetv2_050", num_classes=0)
    original.load_state_dict(
        {
            name: value
            for name, value in _plain_names(model, original).items()
            if name in original.state_dict()
        },
        strict=False,
    )
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected, found = (net.double().train()(x) for net in (original, model.backbone))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert any(isinstance(module, TaskNorm) for module in model.modules())


def _plain_names(model, original):
    """Return the weights of a converted model by timm's names; its norms are new: ones, zeros."""
    own = {n.removeprefix("model."): p for n, p in model.backbone.named_parameters()}
    return {n: own[n].detach() for n in original.state_dict() if n in own}


@needs_timm
def test_grey_images_and_every_layer_of_a_narrow_transformer():
    model = _build((1, 8, 8), **VIT)
    layers = adapted_layers(model.backbone, None)
    assert len(layers) == 1 + 2 * 4
    accumulator = CovarianceAccumulator(layers)
    with torch.no_grad(), accumulator.accumulate():
        assert model.backbone(torch.randn(2, 1, 8, 8)).shape == (2, 16)
    assert all(float(c.trace()) > 0 for c in accumulator.covariances().values())


@needs_timm
def test_prompts_take_part_in_attention_and_queries_and_keys_are_timms():
    model = _build((3, 8, 8), **VIT, prompts=3)
    prompts, x = model.backbone.prompts, torch.randn(2, 3, 8, 8)
    seen = []
    handle = prompts.blocks[0].attention.register_forward_hook(
        lambda _, args, output: seen.append((args[0], output))
    )
    model.backbone.eval()(x)[:, 0].sum().backward()
    handle.remove()
    assert all(tokens.grad.abs().sum() > 0 for tokens in prompts.tokens)
    tokens, output = seen[0]
    assert tokens.shape[1] == output.shape[1] + 3
    block = prompts.blocks[0]
    q, k = block.queries_and_keys(tokens)
    v = block.in_proj(tokens)[..., 32:].view(2, -1, 2, 8).transpose(1, 2)
    mixed = ((q @ k.mT / 8**0.5).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block.attention.proj(mixed)[:, :-3], output, rtol=1e-4, atol=1e-5)


@needs_timm
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "resnet19"}, r"net\.model: timm has no model 'resnet19'; did you mean"),
        ({"model": "resnet18", "arguments": {"widht": 1}}, r"net\.arguments: resnet18: .*widht"),
        (
            {"model": "resnetv2_50x1_bit"},
            r"layer model\.stem\.conv is a StdConv2d",
        ),
        ({"model": "resnet18", "prompts": 2}, r"net\.prompts: resnet18 has no attention"),
        (_vit(norm_layer="rmsnorm"), r"net\.prompts: vit_tiny_patch16_224 has no attention"),
        (_vit(attn_layer="diff"), r"net\.prompts: vit_tiny_patch16_224 has no attention"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(options, words):
    with pytest.raises(SettingsError, match=words):
        _build((3, 32, 32), **options)


@needs_timm
def test_weights_come_from_a_file_and_fit(tmp_path):
    state = _original(VIT, img_size=8).state_dict()
    save_file(state, tmp_path / "mine.safetensors")
    options = Options.model_validate({**VIT, "pretrained": str(tmp_path / "mine.safetensors")})
    found = pretrained.fetch(options, tmp_path / "cache", Progress()).read(tmp_path / "cache")
    model = _build(weights=found, **VIT)
    name = "blocks.1.attn.qkv.weight"
    assert torch.equal(model.backbone.model.get_parameter(name), state[name])
    with pytest.raises(SettingsError, match="another shape of 'pos_embed'"):
        _build((3, 16, 16), weights=found, **VIT)


@needs_timm
def test_weights_in_the_hubs_cache_are_taken_and_never_fetched(tmp_path, monkeypatch):
    import_timm()
    import huggingface_hub

    options = Options(model="vit_tiny_patch16_224.augreg_in21k", pretrained="cache")
    asked = []

    def in_cache(repository, name):
        asked.append((repository, name))
        return str(path) if path.exists() else None

    path = tmp_path / "model.safetensors"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", in_cache)
    with pytest.raises(MissingFilesError, match="not in the hub's cache") as error:
        pretrained.fetch(options, tmp_path / "cache", Progress())
    assert "hf download timm/vit_tiny_patch16_224.augreg_in21k" in error.value.remedy
    save_file({"a": torch.ones(2)}, path)
    found = pretrained.fetch(options, tmp_path / "cache", Progress())
    assert torch.equal(found.read(tmp_path / "cache")["a"], torch.ones(2))
    assert set(asked) == {("timm/vit_tiny_patch16_224.augreg_in21k", "model.safetensors")}
    with pytest.raises(SettingsError, match=r"neither a \.safetensors"):
        pretrained.fetch(Options(model="resnet18", pretrained="DEFAULT"), tmp_path, Progress())


def test_without_timm_one_line_says_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "timm" else found(name)
    )
    with pytest.raises(SystemRefusedError, match="timm is not installed") as error:
        _build(**VIT)
    assert error.value.remedy == "pip install 'ness-cli[timm]'"
