"""One battery for every method, found by its file: whoever adds a method gets it for free."""

from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_task

from ness_cli import registry
from ness_cli.engine.score import record_statistics
from ness_cli.engine.stepper import Stepper
from ness_cli.errors import SettingsError
from ness_cli.methods.step import StepProgress
from ness_cli.nets.multi_head import load_tasks
from ness_cli.settings.resolve import METHODS

CASES = [
    *((name, {}) for name in registry.names(METHODS)),
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
    (
        "ness",
        {
            "methods": {"ness": {"scaling": "bounded", "budget": 0.05, "budget_over": "pool"}},
            "net": {"biases": True, "bias": "augmented"},
            "train": {"optimizer": "adam"},
        },
    ),
    ("ness", {"train": {"sam": {"tasks": "all"}, "head_epochs": 1, "clip_norm": 0.5}}),
    ("ness", {"compute": {"precision": "bf16"}, "net": {"batch_norm": True}}),
    ("ness", {"compute": {"precision": "bf16"}, "train": {"optimizer": "adam"}}),
    ("sgp", {"compute": {"precision": "bf16", "determinism": "seeded"}}),
    (
        "ness",
        {
            "methods": {"ness": {"scaling": "bounded", "gamma": 2.0}},
            "train": {"optimizer": "adam"},
        },
    ),
]
IDS = [f"{name}-{'-'.join(extra) or 'plain'}-{i}" for i, (name, extra) in enumerate(CASES)]
every_method = pytest.mark.parametrize(("name", "extra"), CASES, ids=IDS)


def _settings(name, extra):
    return make_settings(method={"name": name}, **extra)


def _past(settings, step):
    return settings.options.uses_past_data(step)


def _train(method, settings, number):
    task = make_task(number, past=_past(settings, "train"))
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
    record_statistics(method, method.training_sets(task))
    return {k: v.clone() for k, v in method.update().items()}


def _build(method, settings, number):
    method.consolidate(make_task(number, past=_past(settings, "build")), lambda _: None)
    return {f: {k: v.clone() for k, v in t.items()} for f, t in method.memory().items()}


def _long_lived(settings, tasks=3):
    """One object for the whole run; returns what each task would leave on disk."""
    method, left = make_method(settings), []
    for number in range(1, tasks + 1):
        add_task(method, number)
        update = _train(method, settings, number)
        model = {k: v.clone() for k, v in method.model.state_dict().items()}
        left.append((model, update, _build(method, settings, number)))
    return method, left


def _fresh(settings, left, number, step):
    """A method made anew from what is on disk, as a process of its own would."""
    method = make_method(settings)
    have = number - 1 if step == "train" else number
    if have:
        load_tasks(method.model, left[have - 1][0], [3] * have)
        method.model.select(have)
    if number > 1:
        memory = left[number - 2][2]
        method.load_memory({name: memory[name] for name in method.reads(step)})
    if step == "build":
        method.load_update(left[number - 1][1])
    else:
        add_task(method, number)
    return method


def _assert_same(mine, other):
    assert mine.keys() == other.keys()
    for key, value in mine.items():
        assert torch.equal(value, other[key]), key


@every_method
def test_objects_rebuilt_between_all_stages_give_the_same_bits(name, extra):
    settings = _settings(name, extra)
    _, left = _long_lived(settings)
    for number, (model, update, memory) in enumerate(left, start=1):
        method = _fresh(settings, left, number, "train")
        _assert_same(_train(method, settings, number), update)
        _assert_same(method.model.state_dict(), model)
        method = _fresh(settings, left, number, "build")
        rebuilt = _build(method, settings, number)
        assert rebuilt.keys() == memory.keys()
        for file, tensors in memory.items():
            _assert_same(rebuilt[file], tensors)


@every_method
def test_the_same_seed_gives_the_same_tensors(name, extra):
    settings = _settings(name, extra)
    (_, one), (_, two) = _long_lived(settings, 2), _long_lived(settings, 2)
    _assert_same(one[1][0], two[1][0])


@every_method
def test_the_progress_of_consolidation_adds_up_to_what_was_announced(name, extra):
    settings = _settings(name, extra)
    method, done = make_method(settings), []
    add_task(method, 1)
    _train(method, settings, 1)
    task = make_task(1, past=_past(settings, "build"))
    announced = method.consolidation_work(task)
    rows = method.consolidate(task, done.append)
    assert sum(done) == announced
    assert min(done, default=0) >= 0
    # Not all at once: layers and chunks are told of one by one.
    assert len([work for work in done if work]) >= 2 * len(rows)
    assert (announced > 0) == bool(rows)


@every_method
def test_after_a_task_the_model_has_plain_names(name, extra):
    method, _ = _long_lived(_settings(name, extra), 2)
    assert not any("parametrizations" in key for key in method.model.state_dict())


@every_method
def test_a_task_view_changes_nothing_when_left(name, extra):
    method, _ = _long_lived(_settings(name, extra), 2)
    before = {k: v.clone() for k, v in method.model.state_dict().items()}
    method.model.train()
    method.model.select(2)
    with method.task_view(1) as model:
        assert (model.task, model.training) == (1, False)
        model(make_task(1).train.batch(slice(0, 4)).x)
    assert (method.model.task, method.model.training) == (2, True)
    _assert_same(method.model.state_dict(), before)


@every_method
def test_memory_is_contiguous_and_finite(name, extra):
    _, left = _long_lived(_settings(name, extra), 2)
    for _, update, memory in left:
        for tensors in (update, *memory.values()):
            for key, tensor in tensors.items():
                assert tensor.is_contiguous(), key
                assert torch.isfinite(tensor.double()).all(), key


@every_method
def test_nothing_is_printed(name, extra, capfd):
    _long_lived(_settings(name, extra), 2)
    assert capfd.readouterr() == ("", "")


@every_method
def test_old_heads_do_not_move(name, extra):
    settings = _settings(name, extra)
    if name == "joint" or settings.net.heads == "shared":
        pytest.skip("trains all heads by design")
    _, left = _long_lived(settings, 2)
    assert torch.equal(left[0][0]["heads.1.weight"], left[1][0]["heads.1.weight"])


@pytest.mark.parametrize("name", registry.names(METHODS))
def test_unknown_options_are_refused(name):
    with pytest.raises(SettingsError, match=f"methods.{name}.no_such_option"):
        make_settings(method={"name": name}, methods={name: {"no_such_option": 1}})


@pytest.mark.parametrize("name", registry.names(METHODS))
def test_every_method_has_an_option_model_and_a_class(name):
    assert registry.load_class("ness_cli.methods", name, place="test") is not None
    module = registry.load(METHODS, name, place="test")
    assert module.__doc__.splitlines()[0].endswith(".")
