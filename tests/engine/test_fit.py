"""Training that is stopped at any step boundary goes on with the same bits, for every method."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from factory import (
    NETS,
    add_task,
    make_method,
    make_settings,
    make_task,
    make_train_step,
    shape_of,
)

from ness_cli import seeding
from ness_cli.engine.checkpoint import CheckpointFile
from ness_cli.engine.epoch import epoch_batches
from ness_cli.engine.fit import Fit
from ness_cli.engine.fit_state import FitContext
from ness_cli.engine.step_boundary import StepBoundary
from ness_cli.engine.validation import Validation
from ness_cli.errors import DamagedError, NumericalError, SettingsError, StoppedError
from ness_cli.methods.finetune import Finetune
from ness_cli.methods.task import Phase
from ness_cli.settings.components import METHODS
from ness_cli.stop_request import StopRequest

PLATEAU = {"schedule": "plateau", "weights": "best", "patience": 1, "lr_min": 1e-3, "epochs": 4}
CASES = [
    *((name, {"net": NETS[name]} if name in NETS else {}) for name in METHODS.names()),
    ("eblora", {"train": {"optimizer": "adamw", "head_epochs": 1, "epochs": 3, "weights": "best"}}),
    ("ness", {"train": {"optimizer": "adam", "weight_decay": 0.01}}),
    ("ness", {"train": {"sam": {"tasks": "all"}, "weight_decay": 0.01}}),
    ("ness", {"train": PLATEAU}),
    ("joint", {"train": PLATEAU, "net": {"batch_norm": True}}),
    ("ness", {"methods": {"ness": {"scaling": "bounded"}}, "train": {"sam": {"tasks": "all"}}}),
    ("ness", {"net": {"dropout": 0.3, "batch_norm": True}, "norm": {"affine": "per-task"}}),
    ("finetune", {"train": {**PLATEAU, "optimizer": "adam"}, "net": {"dropout": 0.3}}),
    ("ness", {"train": {"augment": [{"RandomCrop": {"size": 4, "padding": 1}}, "RandomErasing"]}}),
    ("ness", {"methods": {"ness": {"scaling": "bounded", "max_output_change": 1e-4}}}),
    ("ness", {"train": {"average": 0.6, "epochs": 3}}),
    ("ness", {"train": {"head_epochs": 1, "epochs": 3, "optimizer": "adam", "average": 0.5}}),
    ("sgp", {"train": {"head_epochs": 1, "mixup": 0.4}, "net": {"batch_norm": True}}),
    ("ness", {"compute": {"precision": "bf16"}, "net": {"dropout": 0.3, "batch_norm": True}}),
    (
        "ness",
        {
            "methods": {"ness": {"max_output_change": 1e-4, "eps1": 0.01}},
            "train": {"optimizer": "adam"},
        },
    ),
    ("ness", {"net": {"biases": True, "bias": "augmented"}, "train": {"batch_size": 7}}),
    (
        "ness",
        {
            "methods": {"ness": {"scaling": "none", "budget": 0.01, "budget_steps": 2}},
            "train": {"average": 0.6},
        },
    ),
    (
        "ness",
        {
            "methods": {"ness": {"scaling": "none", "budget": 0.01, "budget_steps": 2}},
            "train": {"optimizer": "adam"},
        },
    ),
    (
        "ness",
        {
            "methods": {"ness": {"mix": 3, "eps1": 0.05}},
            "train": {"head_epochs": 1, "epochs": 3, "average": 0.5, "momentum": 0.9},
        },
    ),
    (
        "ness",
        {
            "methods": {"ness": {"mix": 3}},
            "net": {"biases": True, "bias": "augmented"},
            "train": {"optimizer": "adam", "epochs": 3, "weights": "best"},
        },
    ),
    ("ewc", {"train": {"head_epochs": 1, "epochs": 3, "weights": "best"}}),
    ("hat", {"train": {"head_epochs": 1, "epochs": 3, "average": 0.5}, "net": {"dropout": 0.3}}),
    (
        "halrp",
        {
            "train": {"optimizer": "adam", "lr": 0.01, "weights": "best", "epochs": 3},
            "net": {"biases": True, "batch_norm": True},
        },
    ),
    ("owm", {"train": {"clip_norm": 0.5}, "methods": {"owm": {"alpha": 0.1}}}),
    ("er", {"train": {"head_epochs": 1, "epochs": 3, "sam": {"tasks": "all"}}}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(CASES)]


def _begin(settings, task_number=2):
    """A method that has learned task 1 and begins task 2."""
    shape = shape_of(settings)
    method = make_method(settings, shape)
    for earlier in range(1, task_number):
        add_task(method, earlier)
        task = make_task(earlier, past=True, shape=shape)
        method.begin_task(task)
        method.end_task(task)
        method.consolidate(task, lambda _: None)
    add_task(method, task_number)
    task = make_task(task_number, past=settings.options.uses_past_data("train"), shape=shape)
    method.begin_task(task)
    return method, task


class TwoPhases(Finetune):
    """Trains everything, then the head alone with what it noted in the first phase."""

    def start(self):
        self.noted = torch.zeros(())

    def phases(self, task):
        return [Phase("all", 2), Phase("head", 2)]

    def begin_phase(self, task, phase, *, is_resumed=False):
        if phase.name == "head":
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name == "heads.2.weight")

    def loss(self, step):
        return super().loss(step) * (1 + 0.01 * self.noted)

    def after_step(self, step):
        self.noted = self.noted + step.batch.x.mean()

    def state_tensors(self):
        return {"noted": self.noted}

    def load_state_tensors(self, tensors):
        self.noted = tensors["noted"]


def _fit(settings, path, stop_after=None, kind=None, stop=None, notes=None):
    method, task = _begin(settings)
    if kind is not None:
        method = kind(method.model, settings.options, settings.train, seed=settings.seed)
        method.begin_task(task)
    stop, steps = stop or StopRequest(), 0

    def advance(n=1, info=""):
        nonlocal steps
        steps += n if info != "resumed" else 0
        if stop_after is not None and steps >= stop_after:
            stop.request("test")

    context = FitContext(
        train=settings.train,
        seed=settings.seed,
        batch_size=16,
        checkpoint=CheckpointFile(path, {"kind": "checkpoint"}, remedy="delete it"),
        checkpoint_seconds=1e9,
        stop=stop,
        resume="ness train-task RUN",
        on_epoch=lambda _: None,
        advance=advance,
        note=[].append if notes is None else notes.append,
    )
    state = Fit(method, task, context).train()
    method.end_task(task)
    return method.model.state_dict(), method.outputs("train").get("update", {}), state


@pytest.mark.parametrize(("name", "extra"), CASES, ids=IDS)
@pytest.mark.parametrize("every", [1, 2, 5])
def test_stopped_again_and_again_it_ends_with_the_same_bits(name, extra, every, tmp_path):
    settings = make_settings(method={"name": name}, **extra)
    model, update, state = _fit(settings, tmp_path / "undisturbed")
    stops = 0
    while True:
        try:
            other_model, other_update, other_state = _fit(settings, tmp_path / "c", every)
            break
        except StoppedError:
            stops += 1
            seeding.seed_default(stops, "something else drew random numbers in between")
    assert stops >= max(1, state.num_steps_done // every - 1)
    for mine, other in ((model, other_model), (update, other_update)):
        assert mine.keys() == other.keys()
        for key, value in mine.items():
            assert torch.equal(value, other[key]), key
    for mine, other in zip(state.history, other_state.history, strict=True):
        assert {**mine, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_method_of_two_phases_resumes_in_either(every, tmp_path):
    settings = make_settings(method={"name": "finetune"}, net={"dropout": 0.2})
    model, _, state = _fit(settings, tmp_path / "undisturbed", kind=TwoPhases)
    assert [entry["phase"] for entry in state.history] == ["all", "all", "head", "head"]
    while True:
        try:
            other, _, _ = _fit(settings, tmp_path / "c", every, kind=TwoPhases)
            break
        except StoppedError:
            continue
    for key, value in model.items():
        assert torch.equal(value, other[key]), key


def test_a_checkpoint_of_other_inputs_is_passed_over(tmp_path):
    path = tmp_path / "c"
    CheckpointFile(path, {"inputs": {"a": "1"}}, "").save({"x": torch.ones(1)}, {})
    assert CheckpointFile(path, {"inputs": {"a": "2"}}, "").load() is None
    assert CheckpointFile(path, {"inputs": {"a": "1"}}, "").load() is not None


def test_a_damaged_checkpoint_is_an_error_not_a_fresh_start(tmp_path):
    path = tmp_path / "c"
    path.write_bytes(b"nothing of use")
    with pytest.raises(DamagedError):
        _fit(make_settings(), path)


def test_every_image_is_in_exactly_one_batch_and_batches_never_mix_tasks():
    sets = [make_task(1, n=10).train, make_task(2, n=21).train]
    batches = epoch_batches(sets, 2, torch.Generator().manual_seed(0))
    for images in sets:
        positions = torch.cat([p for s, p in batches if s is images])
        assert sorted(positions.tolist()) == list(range(len(images)))
    assert [s.task for s, _ in batches] != sorted(s.task for s, _ in batches)


@pytest.mark.parametrize(("batch_norm", "sizes"), [(True, [8, 5, 4]), (False, [8, 8, 1])])
def test_no_image_is_normalised_by_itself_in_training(batch_norm, sizes, tmp_path, monkeypatch):
    settings = make_settings(net={"batch_norm": batch_norm}, train={"epochs": 1})
    method, task = _begin(settings, task_number=1)
    task = type(task)(1, task.num_classes, make_task(1, n=17).train, task.valid)
    seen = []
    gradients = method.gradients
    monkeypatch.setattr(
        method, "gradients", lambda step: (seen.append(len(step.batch)), gradients(step))[1]
    )
    monkeypatch.setattr(f"{__name__}._begin", lambda _settings: (method, task))
    _, _, state = _fit(settings, tmp_path / "c")
    assert seen == sizes
    assert state.num_steps_done == 3


def test_best_weights_are_those_of_the_lowest_validation_loss(tmp_path):
    settings = make_settings(train={**PLATEAU, "epochs": 6, "lr": 0.5, "patience": 6})
    _, _, state = _fit(settings, tmp_path / "c")
    losses = [entry["valid_loss"] for entry in state.history]
    best = losses.index(min(losses)) + 1
    short = make_settings(train={**PLATEAU, "epochs": best, "lr": 0.5, "patience": 6})
    model, _, _ = _fit(settings, tmp_path / "d")
    other, _, _ = _fit(short, tmp_path / "e")
    for key, value in model.items():
        assert torch.equal(value, other[key]), key


def test_what_is_reported_of_the_best_weights_is_of_the_best_epoch(tmp_path):
    settings = make_settings(train={**PLATEAU, "epochs": 6, "lr": 0.5, "patience": 6})
    _, _, state = _fit(settings, tmp_path / "c")
    best = min(state.history, key=lambda entry: entry["valid_loss"])
    assert best is not state.history[-1]
    assert state.kept == {key: best[key] for key in ("train_loss", "valid_loss", "valid_accuracy")}


def test_what_is_reported_of_the_last_weights_is_of_the_last_epoch(tmp_path):
    _, _, state = _fit(make_settings(train={"head_epochs": 1}), tmp_path / "c")
    assert state.kept["valid_loss"] == state.history[-1]["valid_loss"]


def test_averaged_weights_are_scored_themselves(tmp_path):
    settings = make_settings(train={"average": 1.0, "epochs": 3})
    model, _, state = _fit(settings, tmp_path / "c")
    method, task = _begin(settings)
    method.end_task(task)
    method.model.load_state_dict(model)
    expected = Validation(method, task, seed=1, batch_size=16).score("")
    # The saved weights are those that V gives, a rounding away from the ones that were scored.
    assert state.kept["valid_loss"] == pytest.approx(expected.loss, rel=1e-5)
    assert state.kept["valid_loss"] != pytest.approx(state.history[-1]["valid_loss"], rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])  # the dense weights, and V itself
@pytest.mark.parametrize("head_epochs", [0, 1])
def test_phases_in_which_nothing_can_learn_are_skipped(optimizer, head_epochs, tmp_path):
    settings = make_settings(
        methods={"ness": {"eps1": 1e-30}},
        net={"heads": "shared", "hidden": [4, 4], "adapt": ["fc2"]},
        train={"optimizer": optimizer, "head_epochs": head_epochs, "weight_decay": 0.01},
    )
    method, _ = _begin(settings)
    assert not any(p.numel() for p in method.trainable().values())
    before, _ = _begin(settings, task_number=1)  # task 1 is not really trained here
    notes = []
    model, _, state = _fit(settings, tmp_path / "c", notes=notes)
    names = [*["head"] * head_epochs, "train"]
    assert state.skipped == names
    assert [name in note for name, note in zip(names, notes, strict=True)] == [True] * len(names)
    assert (state.history, state.kept, state.num_steps_done) == ([], {}, 0)
    assert torch.equal(model["backbone.fc2.weight"], before.model.backbone.fc2.weight)


def test_training_without_validation_images_works(tmp_path):
    settings = make_settings(train=PLATEAU)
    method, task = _begin(settings)
    task = type(task)(task.number, task.num_classes, task.train, None, task.past)
    context = FitContext(
        train=settings.train,
        seed=1,
        batch_size=16,
        checkpoint=CheckpointFile(tmp_path / "c", {}, ""),
        checkpoint_seconds=1e9,
        stop=StopRequest(),
        resume="",
        on_epoch=lambda _: None,
        advance=lambda _n, _i: None,
        note=lambda _: None,
    )
    state = Fit(method, task, context).train()
    assert len(state.history) == 4
    assert "valid_loss" not in state.history[0]


def test_a_loss_that_is_not_finite_stops_and_names_the_layer(tmp_path):
    settings = make_settings(train={"lr": 1e30})
    stopped = r"layer fc\d: its output became NaN or infinite at"
    with pytest.raises(NumericalError, match=stopped) as refused:
        _fit(settings, tmp_path / "c")
    assert refused.value.remedy == "lower train.lr, or set train.clip_norm"


def test_sam_in_the_first_task_only(tmp_path):
    plain, _, _ = _fit(make_settings(), tmp_path / "a")
    first, _, _ = _fit(make_settings(train={"sam": {"tasks": "first"}}), tmp_path / "b")
    every, _, _ = _fit(make_settings(train={"sam": {"tasks": "all"}}), tmp_path / "c")
    # Task 2 is trained here: "first" must not touch it, "all" must.
    assert all(torch.equal(v, first[k]) for k, v in plain.items())
    assert not all(torch.equal(v, every[k]) for k, v in plain.items())


def test_the_loss_of_history_is_the_mean_over_images(tmp_path):
    settings = make_settings(train={"lr": 1e-12, "momentum": 0.0, "epochs": 1})
    _, _, state = _fit(settings, tmp_path / "c")
    method, task = _begin(settings)
    with torch.no_grad():
        expected = float(method.loss(make_train_step(method, task.train)))
    assert math.isclose(state.history[0]["train_loss"], expected, rel_tol=1e-4)


def test_in_its_epochs_the_head_learns_alone(tmp_path):
    settings = make_settings(train={"head_epochs": 1, "epochs": 2, "momentum": 0.0})
    method, task = _begin(settings)
    phases = method.phases(task)
    assert [(phase.name, phase.num_epochs) for phase in phases] == [("head", 1), ("train", 1)]
    everything = set(method.trainable())
    method.begin_phase(task, phases[0])
    assert set(method.trainable()) == {"heads.2.weight"}
    method.begin_phase(task, phases[1])
    assert set(method.trainable()) == everything
    assert len(method.phases(make_task(1))) == 1


def test_averaged_weights_are_the_mean_over_the_last_share_of_the_steps(tmp_path):
    seen = []

    class Noted(Finetune):
        def after_step(self, step):
            seen.append(self.model.backbone.fc1.weight.detach().double())

    settings = make_settings(method={"name": "finetune"}, train={"average": 0.5, "epochs": 4})
    model, _, state = _fit(settings, tmp_path / "c", kind=Noted)
    assert len(seen) == state.num_steps_done == 12
    mean = torch.stack(seen[6:]).mean(dim=0)
    torch.testing.assert_close(model["backbone.fc1.weight"].double(), mean, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(seen[-1], mean, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("average", [0.0, 1.0])
def test_a_task_ends_with_weights_inside_the_subspace_averaged_or_not(average, tmp_path):
    settings = make_settings(
        train={"average": average, "epochs": 3}, methods={"ness": {"eps1": 0.1}}
    )
    end, _, _ = _fit(settings, tmp_path / "c")
    method, task = _begin(settings)
    open_layers = [(n, p) for n, p in method.projectors(task).items() if p.rank]
    assert open_layers
    for name, projector in open_layers:
        change = end[f"backbone.{name}.weight"] - method.layers[name].matrix()
        assert not projector.is_identity
        assert change.norm() > 0
        assert (change - projector(change)).norm() <= 1e-5 * change.norm()


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"head_epochs": 2, "epochs": 2}, "leaves none of 2 epochs"),
        ({"average": 0.5, "weights": "best"}, "average needs weights=last"),
        ({"average": 0.5, "schedule": "plateau"}, "average needs weights=last"),
    ],
)
def test_parts_of_training_that_do_not_fit_are_refused(train, message):
    with pytest.raises(SettingsError, match=message):
        make_settings(train=train)


def test_a_signal_between_deciding_and_stopping_waits_for_the_next_step(tmp_path, monkeypatch):
    """What is said to be saved is saved."""
    settings = make_settings()
    decided = StepBoundary.after_step

    def after_step_then_signal(self):
        found = decided(self)
        late.request("SIGTERM")
        return found

    late = StopRequest()
    monkeypatch.setattr(StepBoundary, "after_step", after_step_then_signal)
    with pytest.raises(StoppedError, match="a checkpoint is saved"):
        _fit(settings, tmp_path / "checkpoint", stop=late)
    assert (tmp_path / "checkpoint").exists()


def test_weights_that_blow_up_in_the_last_step_are_not_kept(tmp_path):
    train = {"epochs": 1, "lr": 1e39, "batch_size": 24}
    settings = make_settings(method={"name": "finetune"}, train=train)
    with pytest.raises(NumericalError, match="task 2, epoch 1"):
        _fit(settings, tmp_path / "checkpoint")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own insides
@pytest.mark.parametrize("every", [2, 5])
def test_compiled_it_is_stopped_and_ends_with_the_same_bits_too(every, tmp_path):
    settings = make_settings(
        compute={"compile": "on"}, net={"batch_norm": True}, train={"batch_size": 7}
    )
    model, update, _ = _fit(settings, tmp_path / "undisturbed")
    resumed = None
    while resumed is None:
        with contextlib.suppress(StoppedError):
            resumed = _fit(settings, tmp_path / "checkpoint", stop_after=every)
    for name, tensor in model.items():
        assert torch.equal(resumed[0][name], tensor), name
    for name, tensor in update.items():
        assert torch.equal(resumed[1][name], tensor), name
