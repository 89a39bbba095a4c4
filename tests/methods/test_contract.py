"""One battery for every method, found by its file: whoever adds a method gets it for free."""

from __future__ import annotations

import contextlib
import io
import itertools
from dataclasses import dataclass

import pytest
import torch
from factory import NETS, VIT, add_task, make_method, make_settings, make_task, shape_of

from ness_cli import registry, tensor_files
from ness_cli.engine.score import record_statistics
from ness_cli.engine.stepper import Stepper
from ness_cli.errors import SettingsError
from ness_cli.methods.base import Method
from ness_cli.methods.step import StepProgress
from ness_cli.nets.multi_head import load_tasks
from ness_cli.settings.components import METHODS
from ness_cli.settings.model import Settings
from ness_cli.subspace.layer_view import join

CASES = [
    *((name, {"net": NETS[name]} if name in NETS else {}) for name in METHODS.names()),
    (
        "nsp2",
        {
            "net": VIT,
            "train": {"optimizer": "adam", "head_epochs": 1, "sam": {"tasks": "all"}},
            "methods": {"nsp2": {"backbone": "frozen", "projector": "published"}},
        },
    ),
    ("ness", {"train": {"optimizer": "adam"}}),
    ("ness", {"methods": {"ness": {"covariance": "recompute", "eps1": 0.05}}}),
    ("ness", {"methods": {"ness": {"threshold": "frobenius", "eps1": 0.2}}}),
    ("ness", {"norm": {"affine": "per-task"}, "net": {"batch_norm": True}}),
    ("gpm", {"norm": {"affine": "frozen"}, "net": {"batch_norm": True}}),
    ("ness", {"net": {"heads": "shared"}}),
    ("ness", {"net": {"biases": True}}),
    ("ness", {"net": {"biases": True, "bias": "augmented"}}),
    ("ness", {"net": {"biases": True, "bias": "augmented"}, "train": {"optimizer": "adam"}}),
    ("gpm", {"net": {"biases": True, "bias": "augmented"}}),
    ("ness", {"net": {"adapt": ["fc2"]}}),
    ("ness", {"methods": {"ness": {"scaling": "bounded", "eps1": 0.01}}}),
    ("ness", {"methods": {"ness": {"max_output_change": 1e-3, "eps1": 0.01}}}),
    ("ness", {"methods": {"ness": {"scaling": "conceptor", "anchor": 0.1}}}),
    ("ness", {"methods": {"ness": {"scaling": "none", "budget": 0.05, "budget_steps": 2}}}),
    ("ness", {"methods": {"ness": {"scaling": "bounded", "budget": "auto"}}}),
    (
        "ness",
        {
            "methods": {"ness": {"scaling": "bounded", "budget": 0.05, "budget_over": "pool"}},
            "net": {"biases": True, "bias": "augmented"},
            "train": {"optimizer": "adam"},
        },
    ),
    ("eblora", {"train": {"optimizer": "adamw", "head_epochs": 1, "sam": {"tasks": "all"}}}),
    ("eblora", {"methods": {"eblora": {"memory": "activation", "first_task": "low-rank"}}}),
    (
        "eblora",
        {
            "net": {"biases": True, "bias": "augmented", "heads": "shared", "batch_norm": True},
            "norm": {"affine": "per-task"},
            "methods": {"eblora": {"step": "published", "rank": 2}},
        },
    ),
    ("ness", {"methods": {"ness": {"mix": 3}}, "net": {"heads": "shared"}}),
    (
        "ness",
        {
            "methods": {"ness": {"mix": 40, "mix_by": "restricted", "budget": 0.05}},
            "net": {"biases": True, "bias": "augmented", "batch_norm": True},
            "train": {"optimizer": "adam", "head_epochs": 1},
        },
    ),
    (
        "ness",
        {
            "methods": {"ness": {"mix": 3, "scaling": "bounded", "anchor": 0.1, "budget": 0.05}},
            "train": {"sam": {"tasks": "all"}, "momentum": 0.9, "weight_decay": 1e-3},
            "compute": {"precision": "bf16"},
        },
    ),
    ("ness", {"train": {"sam": {"tasks": "all"}, "head_epochs": 1, "clip_norm": 0.5}}),
    ("ness", {"compute": {"precision": "bf16"}, "net": {"batch_norm": True}}),
    ("ness", {"compute": {"precision": "bf16"}, "train": {"optimizer": "adam"}}),
    ("trgp", {"methods": {"trgp": {"relevance": 0.0}}}),
    (
        "trgp",
        {
            "methods": {"trgp": {"relevance": 0.0}},
            "net": {"biases": True, "bias": "augmented", "batch_norm": True, "heads": "shared"},
            "norm": {"affine": "per-task"},
            "train": {"sam": {"tasks": "all"}, "head_epochs": 1},
        },
    ),
    (
        "dfgp",
        {
            "methods": {"dfgp": {"labels": "swapped", "mixed_fraction": 0.5, "alpha": 0.2}},
            "net": {"biases": True, "bias": "augmented", "batch_norm": True, "heads": "shared"},
            "train": {"head_epochs": 1, "weight_decay": 1e-3},
        },
    ),
    ("fs-dgpm", {"methods": {"fs-dgpm": {"second_order": True, "soft": "fixed"}}}),
    (
        "fs-dgpm",
        {
            "methods": {"fs-dgpm": {"memory": 12, "inner_steps": 3, "samples": 5}},
            "net": {"biases": True, "bias": "augmented", "batch_norm": True},
            "norm": {"affine": "per-task"},
            "train": {"head_epochs": 1, "weight_decay": 1e-3},
        },
    ),
    ("sgp", {"compute": {"precision": "bf16", "determinism": "seeded"}}),
    ("lwf", {"net": {"batch_norm": True}, "train": {"head_epochs": 1, "mixup": 0.5}}),
    ("er", {"net": {"batch_norm": True}, "norm": {"affine": "per-task"}}),
    ("er", {"train": {"sam": {"tasks": "all"}, "mixup": 0.5}, "methods": {"er": {"memory": 7}}}),
    ("owm", {"net": {"heads": "shared", "biases": True, "bias": "augmented"}}),
    ("owm", {"train": {"head_epochs": 1, "sam": {"tasks": "all"}, "weight_decay": 0.01}}),
    ("owm", {"net": {"batch_norm": True}, "methods": {"owm": {"alpha": [1, 0.1]}}}),
    ("agem", {"net": {"batch_norm": True}, "train": {"head_epochs": 1, "sam": {"tasks": "all"}}}),
    ("agem", {"net": {"heads": "shared"}, "methods": {"agem": {"selection": "reservoir"}}}),
    ("agem", {"train": {"optimizer": "adam"}, "methods": {"agem": {"per_class": 2}}}),
    ("er", {"net": {"heads": "shared"}, "methods": {"er": {"mix_tasks": True}}}),
    ("lwf", {"net": {"heads": "shared"}, "compute": {"precision": "bf16"}}),
    (
        "ness",
        {
            "methods": {"ness": {"scaling": "bounded", "gamma": 2.0}},
            "train": {"optimizer": "adam"},
        },
    ),
    ("adam-nscl", {"train": {"optimizer": "adam", "weight_decay": 0.01}}),
    (
        "adam-nscl",
        {
            "methods": {"adam-nscl": {"norm_strength": 100.0, "covariance": "batch-mean"}},
            "net": {"batch_norm": True},
            "train": {"optimizer": "adam", "sam": {"tasks": "all"}, "clip_norm": 0.5},
        },
    ),
    (
        "adam-nscl",
        {
            "methods": {"adam-nscl": {"threshold": "energy", "scaling": "frobenius"}},
            "net": {"biases": True, "bias": "augmented", "heads": "shared"},
            "train": {"optimizer": "adamw", "head_epochs": 1, "mixup": 0.2},
        },
    ),
    ("hat", {"net": {"biases": True, "batch_norm": True, "dropout": 0.2}}),
    (
        "hat",
        {
            "net": {"heads": "shared"},
            "train": {
                "optimizer": "adam",
                "lr": 0.01,
                "weight_decay": 0.01,
                "head_epochs": 1,
                "mixup": 0.2,
                "sam": {"tasks": "all"},
            },
        },
    ),
    (
        "halrp",
        {
            "net": {"biases": True, "batch_norm": True},
            "norm": {"affine": "per-task"},
            "train": {"optimizer": "adam", "lr": 0.01, "sam": {"tasks": "all"}, "mixup": 0.2},
        },
    ),
    ("halrp", {"net": {"heads": "shared"}, "methods": {"halrp": {"rank_rule": "flat"}}}),
]
IDS = [f"{name}-{'-'.join(extra) or 'plain'}-{i}" for i, (name, extra) in enumerate(CASES)]


@dataclass
class Lived:
    """A method that lived through three tasks as one object, and what each left on disk."""

    settings: Settings
    method: Method
    left: list[Left]
    printed: str


@dataclass
class Left:
    """What a task leaves on disk: the model, and the method's files by the step that makes them."""

    model: dict[str, torch.Tensor]
    train: dict[str, dict[str, torch.Tensor]]
    build: dict[str, dict[str, torch.Tensor]]

    @property
    def files(self):
        return self.train | self.build


@pytest.fixture(scope="module", params=CASES, ids=IDS)
def lived(request) -> Lived:
    name, extra = request.param
    settings = make_settings(method={"name": name}, **extra)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        torch.manual_seed(0)
        method, left = _long_lived(settings)
    return Lived(settings, method, left, out.getvalue())


def _past(settings, step):
    return settings.options.uses_past_data(step)


def _train(method, settings, task_number):
    task = make_task(task_number, past=_past(settings, "train"), shape=shape_of(settings))
    method.begin_task(task)
    for phase in method.phases(task):
        method.begin_phase(task, phase)
        stepper = Stepper(method, task, phase.train)
        method.model.train()
        for step in range(4):
            positions = torch.arange(step, step + 8)
            stepper.step(task.train, positions, StepProgress(0, step, 4, 1))
        method.after_epoch(task)
    method.end_task(task)
    record_statistics(method, method.statistics_sets(task))
    return _copies(method.outputs("train"))


def _build(method, settings, task_number):
    method.consolidate(
        make_task(task_number, past=_past(settings, "build"), shape=shape_of(settings)),
        lambda _: None,
    )
    return _copies(method.outputs("build"))


def _copies(files):
    return {name: {k: v.clone() for k, v in own.items()} for name, own in files.items()}


def _long_lived(settings, tasks=3):
    """One object for the whole run; returns what each task would leave on disk."""
    method, left = make_method(settings, shape_of(settings)), []
    for task_number in range(1, tasks + 1):
        add_task(method, task_number)
        train = _train(method, settings, task_number)
        model = {k: v.clone() for k, v in method.model.state_dict().items()}
        left.append(Left(model, train, _build(method, settings, task_number)))
    return method, left


def _fresh(settings, left, task_number, step):
    """A method made anew from what is on disk, as a process of its own would."""
    method = make_method(settings, shape_of(settings))
    have = task_number - 1 if step == "train" else task_number
    if have:
        load_tasks(method.model, left[have - 1].model, [3] * have)
        method.model.select(have)
    if task_number > 1:
        before = left[task_number - 2].files
        method.load_memory({name: before[name] for name in method.reads(step)})
        for earlier in range(1, task_number):
            own = left[earlier - 1].files
            names = method.reads_of_every_task(step)
            method.load_task_memory(earlier, {name: own[name] for name in names})
    own = left[task_number - 1].train
    names = [name for name in method.reads_of_every_task(step) if name in own]
    if step == "build" and names:
        method.load_task_memory(task_number, {name: own[name] for name in names})
    if step == "train":
        add_task(method, task_number)
    elif names := method.reads_of_training():
        own = left[task_number - 1].files
        method.load_task_memory(task_number, {name: own[name] for name in names})
    return method


def _assert_same(mine, other):
    assert mine.keys() == other.keys()
    for key, value in mine.items():
        assert torch.equal(value, other[key]), key


def _assert_same_files(mine, other):
    assert mine.keys() == other.keys()
    for name, tensors in mine.items():
        _assert_same(tensors, other[name])


def test_objects_rebuilt_between_all_stages_give_the_same_bits(lived):
    settings, left = lived.settings, lived.left
    for task_number, own in enumerate(left, start=1):
        method = _fresh(settings, left, task_number, "train")
        _assert_same_files(_train(method, settings, task_number), own.train)
        _assert_same(method.model.state_dict(), own.model)
        method = _fresh(settings, left, task_number, "build")
        _assert_same_files(_build(method, settings, task_number), own.build)


def test_the_same_seed_gives_the_same_tensors(lived):
    torch.manual_seed(1)  # what was drawn before does not matter
    _, again = _long_lived(lived.settings, 2)
    _assert_same(again[1].model, lived.left[1].model)


def test_what_is_left_is_what_was_declared(lived):
    declared = {file.name: file.made_by for file in lived.method.files}
    sizes = lived.method.file_sizes()
    assert sizes.keys() == declared.keys()
    for own in lived.left:
        for step, files in (("train", own.train), ("build", own.build)):
            for name, tensors in files.items():
                assert declared[name] == step
                assert tensor_files.num_bytes(tensors) <= sizes[name], name
                for key, tensor in tensors.items():
                    assert tensor.is_contiguous(), key
                    assert torch.isfinite(tensor.double()).all(), key
    # What options leave out has no bytes.
    assert set(lived.left[-1].files) == {name for name, size in sizes.items() if size}


def test_the_models_follow_from_one_another_to_the_bit_if_the_method_says_so(lived):
    way = lived.method.recomposition
    if way is None:
        pytest.skip("its models are stored")
    names = {parameter: name for name, parameter in lived.method.model.named_parameters()}
    views = lived.method.layers
    keys = {n: {p: names[own] for p, own in v.parameters.items()} for n, v in views.items()}

    def matrices(model):
        return {n: join({p: model[key] for p, key in parts.items()}) for n, parts in keys.items()}

    found = matrices(lived.left[0].model)
    for before, own in itertools.pairwise(lived.left):
        first = {name: before.files[name] for name in way.before}
        found = way.step(found, first, {name: own.files[name] for name in way.own})
        _assert_same(found, matrices(own.model))


def test_the_progress_of_consolidation_adds_up_to_what_was_announced(lived):
    settings, done = lived.settings, []
    method = make_method(settings, shape_of(settings))
    add_task(method, 1)
    _train(method, settings, 1)
    task = make_task(1, past=_past(settings, "build"), shape=shape_of(settings))
    announced = method.consolidation_work(task)
    rows = method.consolidate(task, done.append)
    assert sum(done) == announced
    assert min(done, default=0) >= 0
    # Not all at once: layers and chunks are told of one by one.
    assert len([work for work in done if work]) >= 2 * len(rows)
    assert bool(rows) <= (announced > 0)
    assert (announced > 0) == any(file.made_by == "build" for file in method.files)


def test_after_a_task_the_model_has_plain_names(lived):
    assert not any("parametrizations" in key for key in lived.method.model.state_dict())


def test_a_task_view_changes_nothing_when_left(lived):
    method = lived.method
    before = {k: v.clone() for k, v in method.model.state_dict().items()}
    method.model.train()
    method.model.select(2)
    with method.task_view(1) as model:
        assert (model.task, model.training) == (1, False)
        model(make_task(1, shape=shape_of(lived.settings)).train.batch(slice(0, 4)).x)
    assert (method.model.task, method.model.training) == (2, True)
    _assert_same(method.model.state_dict(), before)


@torch.no_grad()
def test_views_made_anew_from_files_are_those_of_the_object_that_lived(lived):
    settings, left, last = lived.settings, lived.left, len(lived.left)
    x = make_task(1, shape=shape_of(settings)).train.batch(slice(0, 8)).x
    method = make_method(settings, shape_of(settings))
    load_tasks(method.model, left[-1].model, [3] * last)
    method.load_memory({name: left[-1].files[name] for name in method.reads("evaluate")})
    names = method.reads_of_every_task("evaluate")
    for task_number, own in enumerate(left, start=1):
        method.load_task_memory(task_number, {name: own.files[name] for name in names})
    for task_number in range(1, last + 1):
        with lived.method.task_view(task_number) as model:
            expected = model(x)
        with method.task_view(task_number) as model:
            assert torch.equal(model(x), expected), task_number


def test_nothing_is_printed(lived):
    assert lived.printed == ""


def test_old_heads_do_not_move(lived):
    method = lived.method
    if method.model.shared_head or method.model.head(1).weight in method.trained_in(2):
        pytest.skip("trains all heads by design")
    first, second, _ = (own.model["heads.1.weight"] for own in lived.left)
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", METHODS.names())
def test_unknown_options_are_refused(name):
    with pytest.raises(SettingsError, match=f"methods.{name}.no_such_option"):
        make_settings(method={"name": name}, methods={name: {"no_such_option": 1}})


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_has_an_option_model_and_a_class(name):
    assert issubclass(registry.load_class("ness_cli.methods", name, setting="test"), Method)
    module = registry.load(METHODS.package, name, setting="test")
    assert module.__doc__.splitlines()[0].endswith(".")
