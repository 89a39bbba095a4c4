from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path

import pytest
import torch

from ness_cli.nets.build import build_model
from ness_cli.settings import presets
from ness_cli.settings.components import METHODS
from ness_cli.settings.resolve import resolve


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_loads_and_says_what_it_is(name):
    resolved = resolve(name)
    path = presets.path_of(name)
    assert resolved.preset == name
    title, benchmark = presets.head(path)
    assert 10 < len(title) < 60
    assert len(benchmark) > 20
    comments = [line for line in path.read_text().splitlines() if line.startswith("# ")]
    # How to run it, and what was published or that nothing was.
    commands = {f"# ness run --preset {name}", f"# ness reproduce {name}", "# ness run"}
    assert commands & set(comments)
    published = resolved.about.published
    words = " ".join(comments).lower()
    assert f"{published.acc:.2f}" in words if published else "nothing" in words
    assert "ness" in resolved.settings.methods


# spec of the published runs: eps1, lr, weight decay, epochs, factor, patience, lr_min, ACC, BWT
PUBLISHED = {
    "cifar100-alexnet-ness-sgdm": (1e-3, 0.005, 1e-4, 200, 2, 6, 1e-5, 72.46, 0.03),
    "cifar100-alexnet-ness-sam": (1e-3, 0.05, 1e-4, 200, 2, 6, 1e-5, 72.68, -0.08),
    "five-resnet18-ness-sgdm": (1e-3, 0.05, 5e-5, 200, 3, 5, 1e-3, 90.20, -0.58),
    "five-resnet18-ness-sam": (1e-3, 0.1, 5e-5, 200, 3, 5, 1e-3, 90.98, -0.86),
    "mini-resnet18-ness-sgdm": (5e-4, 0.01, 1e-5, 100, 3, 5, 1e-3, 63.72, 0.41),
    "mini-resnet18-ness-sam": (5e-4, 0.1, 1e-5, 100, 3, 5, 1e-3, 63.48, -0.26),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_column_has_a_parity_preset_and_a_recommended_twin(name):
    parity, twin = resolve(f"{name}-parity"), resolve(name).settings
    settings, published = parity.settings, parity.about.published
    train, options = settings.train, settings.options
    found = (options.eps1, train.lr, train.weight_decay, train.epochs)
    found += (train.lr_factor, train.patience, train.lr_min, published.acc, published.bwt)
    assert found == PUBLISHED[name]
    assert (settings.norm.statistics, settings.evaluate.batch_size) == ("batch", 64)
    assert (train.schedule, train.weights, train.batch_size) == ("plateau", "best", 64)
    is_sam = name.endswith("sam")
    assert (train.momentum, train.sam.tasks) == ((0.0, "first") if is_sam else (0.9, "none"))
    assert parity.about.seeds == (1, 2, 3, 4, 37)
    assert twin.norm.statistics == "task"
    assert resolve(name).about.published is None
    assert (published.not_comparable is not None) == name.startswith("five")


# What other methods' rows were run with: epochs, lr, factor, patience, lr_min, batch of evaluation,
# share and seed of validation images.
CIFAR = (2, 6, 1e-5, 64, 0.05, "run")
FIVE, MINI = (3, 5, 1e-3, 64, 0.05, 1), (3, 5, 1e-3, 64, 0.02, "run")
RIVALS = {
    "cifar100-alexnet-gpm": (200, 0.01, *CIFAR),
    "cifar100-alexnet-sgp": (200, 0.05, 2, 6, 5e-5, 64, 0.05, 0),
    "cifar100-alexnet-trgp": (200, 0.01, *CIFAR),
    "cifar100-alexnet-dfgp": (200, 0.01, *CIFAR),
    "cifar100-alexnet-code-cl": (200, 0.01, 2, 7, 1e-5, 512, 0.05, "run"),
    "cifar100-alexnet-owm": (200, 0.01, *CIFAR),
    "cifar100-alexnet-ewc": (200, 0.05, *CIFAR),
    "cifar100-alexnet-hat": (200, 0.05, *CIFAR),
    "cifar100-alexnet-agem": (200, 0.05, *CIFAR),
    "five-resnet18-gpm": (100, 0.1, *FIVE),
    "five-resnet18-sgp": (200, 0.1, *FIVE),
    "five-resnet18-trgp": (200, 0.1, *FIVE),
    "five-resnet18-dfgp": (100, 0.1, *FIVE),
    "five-resnet18-code-cl": (100, 0.1, 3, 6, 1e-3, 512, 0.05, 1),
    "five-resnet18-ewc": (100, 0.03, *FIVE),
    "five-resnet18-hat": (100, 0.1, *FIVE),
    "five-resnet18-agem": (100, 0.1, *FIVE),
    "mini-resnet18-gpm": (100, 0.1, *MINI),
    "mini-resnet18-sgp": (100, 0.1, *MINI),
    "mini-resnet18-trgp": (200, 0.1, *MINI),
    "mini-resnet18-dfgp": (100, 0.1, *MINI),
    "mini-resnet18-code-cl": (100, 0.1, 2, 7, 1e-5, 512, 0.05, "run"),
    "mini-resnet18-ewc": (100, 0.03, *MINI),
    "mini-resnet18-hat": (100, 0.03, *MINI),
    "mini-resnet18-agem": (100, 0.1, *MINI),
}


@pytest.mark.parametrize("name", RIVALS)
def test_presets_of_other_methods_have_the_settings_of_the_runs_they_are_compared_with(name):
    resolved = resolve(name)
    settings, train = resolved.settings, resolved.settings.train
    found = (train.epochs, train.lr, train.lr_factor, train.patience, train.lr_min)
    found += (settings.evaluate.batch_size, settings.data.valid_fraction, settings.data.split_seed)
    assert found == RIVALS[name]
    assert (train.schedule, train.weights, train.batch_size) == ("plateau", "best", 64)
    assert (train.optimizer, train.momentum, train.weight_decay) == ("sgd", 0.0, 0.0)
    assert settings.norm.statistics == "batch"
    # Every seed has other classes in its tasks: figures scatter.
    assert resolved.about.acc_tolerance == (3.0 if name.startswith("mini") else 1.0)


@pytest.mark.parametrize("name", [name for name in presets.names() if "-ewc" in name])
def test_presets_of_ewc_clip_gradients_as_its_authors_do(name):
    settings = resolve(name).settings
    assert (settings.method.name, settings.train.clip_norm) == ("ewc", 100)


def _head(name: str) -> str:
    """Return the comment that a preset opens with, as running text."""
    lines = presets.path_of(name).read_text().splitlines()
    return " ".join(line[2:] for line in takewhile(lambda line: line.startswith("#"), lines))


@pytest.mark.parametrize("name", [name for name in presets.names() if name.endswith("-parity")])
def test_parity_presets_say_where_they_differ_from_the_authors_code(name):
    head = _head(name)
    assert "Differs from the authors' code" in head
    assert "recomputed" in head
    assert "clamped" in head
    # What the head says is what the settings do.
    assert resolve(name).settings.options.covariance == "accumulate"


NUM_TASKS = {"cifar100-alexnet": 10, "five-resnet18": 5, "mini-resnet18": 20}


@pytest.mark.parametrize("stem", NUM_TASKS)
@pytest.mark.parametrize("method", ["gpm", "sgp"])
def test_thresholds_that_reach_1_are_said_to_differ_from_the_authors_code(stem, method):
    options = resolve(f"{stem}-{method}").settings.options
    last = options.threshold + options.threshold_increase * (NUM_TASKS[stem] - 1)
    assert (last >= 1) == ("direction, used or not" in _head(f"{stem}-{method}"))


STEMS = ("cifar100-alexnet", "cifar100-20-alexnet", "superclass-lenet", "five-resnet18")


@pytest.mark.parametrize("stem", [*STEMS, "mini-resnet18", "pmnist-mlp"])
def test_every_benchmark_has_the_three_references_and_a_quick_variant(stem):
    for method in ("finetune", "joint", "gpm"):
        assert resolve(f"{stem}-{method}").settings.method.name == method
    assert resolve(f"{stem}-quick").settings.method.name == "ness"


NETWORKS = ("alexnet", "lenet", "resnet18", "mlp", "vit")
OF_NESS = {"", "ness", *(f"ness-{variant}" for variant in ("sgdm", "sam", "bounded", "budget"))}
OF_NESS |= {"bounded", "budget"}


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_is_named_after_its_network_and_its_method(name):
    settings = resolve(name).settings
    words = name.split("-")
    network = next((word for word in words if word in NETWORKS), None)
    if network is None:  # digits, images, ...: a benchmark alone
        assert settings.method.name == "ness"
        return
    kind = settings.net.name
    assert kind == network or (network == "vit" and kind in ("torchvision", "timm"))
    rest = words[words.index(network) + 1 :]
    method = "-".join(word for word in rest if word not in ("parity", "quick"))
    assert settings.method.name == ("ness" if method in OF_NESS else method)
    if settings.method.name == "ness" or "quick" in rest:
        assert settings.norm.statistics == ("batch" if "parity" in rest else "task")
    assert not {"parity", "quick"} & set(rest[:-1])


def test_the_readme_lists_every_method_and_every_benchmark():
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    listed = readme[readme.index("## Methods") : readme.index("## Networks")]
    rows = [line.split("`")[1] for line in listed.splitlines() if line.startswith("| `")]
    assert sorted(rows) == METHODS.names()
    benchmarks = readme[readme.index("## Presets") : readme.index("## Speed")]
    for name in presets.names():
        known = [word for word in benchmarks.split("`") if word and "*" in word]
        assert f"`{name}`" in benchmarks or any(fnmatchcase(name, each) for each in known)


@pytest.mark.parametrize("name", presets.names())
@pytest.mark.parametrize("method", ["finetune", "gpm", "joint", "ness", "sgp"])
def test_every_method_can_be_chosen_on_every_preset(name, method):
    settings = resolve(name, [f"method.name={method}"]).settings
    options = METHODS.model(method, setting="test")
    assert isinstance(settings.options, options)


def test_the_default_preset_is_there():
    assert presets.DEFAULT in presets.names()


def test_alexnet_has_the_published_layers():
    settings = resolve("cifar100-alexnet-ness-sgdm-parity").settings
    model = build_model(settings.net, settings.norm, (3, 32, 32))
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    linears = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    weights = [m.weight for m in (*convolutions, *linears)]
    assert [w[0].numel() for w in weights] == [48, 576, 512, 1024, 2048]
    assert sum(w.numel() for w in weights) == 6_499_328
    assert sum(p.numel() for p in model.parameters()) == 6_499_328 + 9_088
    model.add_task(1, 10)
    assert model.head(1).weight.numel() == 20_480
    assert model.eval()(torch.randn(4, 3, 32, 32)).shape == (4, 10)
