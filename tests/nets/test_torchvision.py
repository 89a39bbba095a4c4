"""Models of torchvision as backbones."""

from __future__ import annotations

import hashlib
import os
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ness_cli.console import Progress
from ness_cli.errors import DamagedError, InputError, MissingFilesError, SettingsError
from ness_cli.nets import pretrained
from ness_cli.nets.build import build_model
from ness_cli.nets.norm import TaskNorm
from ness_cli.settings.nets.torchvision import Options
from ness_cli.settings.sections import NormSettings
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.layer_view import adapted_layers
from ness_cli.vision_libraries import import_torchvision

VIT = {
    "model": "VisionTransformer",
    "arguments": {
        "patch_size": 4,
        "num_layers": 1,
        "num_heads": 2,
        "hidden_dim": 8,
        "mlp_dim": 16,
    },
}
RESNET = {
    "model": "ResNet",
    "arguments": {"block": "BasicBlock", "layers": [1, 1, 1, 1]},
}


def _build(size=16, norm=None, weights=None, **options):
    return build_model(
        Options.model_validate(options), norm or NormSettings(), (3, size, size), weights
    )


def _original(options: dict, size=16) -> nn.Module:
    models = import_torchvision().models
    arguments = dict(options["arguments"])
    if options["model"] == "VisionTransformer":
        arguments["image_size"] = size
    if "block" in arguments:
        arguments["block"] = getattr(models.resnet, arguments["block"])
    return getattr(models, options["model"])(**arguments)


@pytest.mark.parametrize("options", [VIT, RESNET])
def test_the_backbone_computes_what_torchvisions_model_computes(options):
    original = _original(options)
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=0.2)
    model = _build(weights=original.state_dict(), **options)
    kept = {}
    last = [m for m in original.modules() if isinstance(m, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda _, args: kept.update(features=args[0]))
    # In float64: batch statistics of four values can make float32's rounding large.
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        original.double().train()(x)  # batch statistics, as before any are stored
        found = model.backbone.double().train()(x)
    torch.testing.assert_close(found, kept["features"], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("affine", ["frozen", "per-task"])
def test_batch_norm_keeps_its_scale_whatever_the_policy(affine):
    original = _original(RESNET)
    nn.init.normal_(original.bn1.weight)
    model = _build(norm=NormSettings(affine=affine), weights=original.state_dict(), **RESNET)
    model.add_task(1, 2)
    norm = model.backbone.model.bn1
    assert isinstance(norm, TaskNorm)
    key = "shared" if affine == "frozen" else "1"
    assert torch.equal(norm.scale[key], original.bn1.weight)


def test_building_draws_the_weights_from_torchs_default_generator_only():
    torch.manual_seed(5)
    first = _build(**VIT)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    second = _build(**VIT)
    assert torch.equal(torch.get_rng_state(), after)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("model", ["convnext_tiny", "mobilenet_v2"])
def test_grouped_convolutions_are_summed_up_like_any_layer(model):
    net = _build(32, model=model, adapt=["*features.1.*"])
    layers = adapted_layers(net.backbone, None, patterns=net.adapt)
    assert any(isinstance(v.module, nn.Conv2d) and v.module.groups > 1 for v in layers.values())
    accumulator = CovarianceAccumulator(layers)
    with torch.no_grad(), accumulator.accumulate():
        net.backbone(torch.randn(2, 3, 32, 32))
    assert all(float(c.trace()) > 0 for c in accumulator.covariances().values())


@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        (32, {"model": "resnet19"}, "did you mean 'resnet1"),
        (32, {"model": "squeezenet1_1"}, "squeezenet1_1 does not end in one linear classifier"),
        (32, {"model": "swin_t"}, r"layer model\.features\.1\.0\.attn\.qkv is used without"),
        (8, {"model": "alexnet"}, "alexnet cannot take images of 8 x 8"),
        (32, {"model": "resnet18", "arguments": {"widht": 1}}, "widht"),
        (30, {"model": "vit_b_16"}, "net.arguments: vit_b_16"),
        (32, {"model": "resnet18", "adapt": ["nothing"]}, "no layer matches 'nothing'"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(size, options, words):
    def build_and_list():
        net = _build(size, **options)
        adapted_layers(net.backbone, None, patterns=net.adapt)

    with pytest.raises(SettingsError, match=words):
        build_and_list()


def test_a_layer_that_cannot_be_watched_may_be_left_out():
    net = _build(32, model="swin_t", adapt=["*mlp*"])
    assert len(adapted_layers(net.backbone, None, patterns=net.adapt)) == 24


def test_grey_images_are_refused():
    with pytest.raises(SettingsError, match="colour") as error:
        build_model(Options(model="resnet18"), NormSettings(), (1, 32, 32))
    assert "data.channels=rgb" in error.value.remedy


# -- pretrained weights --------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Weights of a narrow model, 'published' as torchvision does."""
    state = _original(RESNET).state_dict()
    path = tmp_path / "web.pth"
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(tmp_path / f"narrow-{digest[:8]}.pth")
    models = import_torchvision().models
    member = SimpleNamespace(url=path.as_uri())
    enum = SimpleNamespace(__members__={"DEFAULT": member})
    monkeypatch.setattr(models, "get_model_weights", lambda name: enum)
    return path, state


def _options(name="DEFAULT"):
    return Options.model_validate({**RESNET, "pretrained": name})


def test_published_weights_are_fetched_once_and_kept_as_safetensors(tmp_path, published):
    path, state = published
    cache = tmp_path / "cache"
    found = pretrained.fetch(_options(), cache, Progress())
    assert [p.suffix for p in (cache / "weights").iterdir()] == [".safetensors"]
    path.unlink()
    assert pretrained.fetch(_options(), cache, Progress()) == found
    assert found.is_in(cache)
    weights = found.read(cache)
    model = _build(weights=weights, **RESNET)
    assert torch.equal(model.backbone.model.conv1.weight, state["conv1.weight"])
    kept = cache / "weights" / found.file
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError):
        found.read(cache)


def test_a_file_put_into_the_cache_by_hand_is_checked_and_used(tmp_path, published):
    path, _ = published
    folder = tmp_path / "cache" / "weights"
    folder.mkdir(parents=True)
    good = path.read_bytes()
    path.unlink()
    with pytest.raises(MissingFilesError) as error:
        pretrained.fetch(_options(), tmp_path / "cache", Progress())
    assert path.name in error.value.remedy
    (folder / path.name).write_bytes(b"something else")
    with pytest.raises(InputError, match="SHA-256"):
        pretrained.fetch(_options(), tmp_path / "cache", Progress())
    (folder / path.name).write_bytes(good)
    assert pretrained.fetch(_options(), tmp_path / "cache", Progress()) is not None


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_of_ones_own(tmp_path, suffix):
    state = _original(RESNET).state_dict()
    path = tmp_path / f"mine{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    found = pretrained.fetch(_options(str(path)), tmp_path / "cache", Progress())
    path.unlink()
    assert torch.equal(found.read(tmp_path / "cache")["conv1.weight"], state["conv1.weight"])


def test_an_attack_in_place_of_weights_does_not_execute(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'attacked'}",)

    path = tmp_path / "mine.pth"
    torch.save({"a": Attack()}, path)
    with pytest.raises(InputError, match=r"mine\.pth"):
        pretrained.fetch(_options(str(path)), tmp_path / "cache", Progress())
    assert not (tmp_path / "attacked").exists()


def test_weights_of_another_model_are_refused():
    state = _original(RESNET).state_dict()
    with pytest.raises(SettingsError, match="lack 'class_token"):
        _build(weights=state, **VIT, pretrained="x.pth")
    state["conv1.weight"] = torch.zeros(1, 3, 7, 7)
    with pytest.raises(SettingsError, match=r"another shape of 'conv1\.weight'"):
        _build(weights=state, **RESNET, pretrained="x.pth")


def test_unknown_names_of_weights_are_refused(tmp_path, published):
    with pytest.raises(SettingsError, match="no weights 'DEFALT'; did you mean 'DEFAULT'"):
        pretrained.fetch(_options("DEFALT"), tmp_path / "cache", Progress())
    with pytest.raises(InputError, match=r"gone\.pth is not there"):
        pretrained.fetch(_options(str(tmp_path / "gone.pth")), tmp_path, Progress())
