from __future__ import annotations

import pytest
import torch
from factory import add_task, make_method, make_settings, make_task

from ness_cli import numerics
from ness_cli.methods.base import StepProgress
from ness_cli.optim.make import make_optimizer
from ness_cli.settings.sections import ComputeSettings
from ness_cli.subspace.projection import Projector


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    numerics.configure(ComputeSettings())


@pytest.mark.parametrize(
    ("determinism", "only_deterministic", "by_trial"),
    [("strict", True, False), ("seeded", False, False), ("off", False, True)],
)
def test_determinism_is_what_was_asked_for(determinism, only_deterministic, by_trial):
    numerics.configure(ComputeSettings(determinism=determinism))
    assert torch.are_deterministic_algorithms_enabled() == only_deterministic
    assert torch.backends.cudnn.deterministic == only_deterministic
    assert torch.backends.cudnn.benchmark == by_trial


def test_tf32_is_allowed_in_training_steps_alone_and_never_in_a_projection():
    settings = ComputeSettings(precision="tf32")
    numerics.configure(settings)
    assert not torch.backends.cuda.matmul.allow_tf32
    with numerics.tensor_cores(settings):
        assert torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cudnn.allow_tf32
        with numerics.full_float32(torch.device("cpu")):
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    with numerics.tensor_cores(ComputeSettings()):
        assert not torch.backends.cuda.matmul.allow_tf32


def test_a_projection_under_autocast_is_the_float32_one():
    basis, _ = torch.linalg.qr(torch.randn(8, 3))
    projector, rows = Projector(basis), torch.randn(5, 8)
    plain = projector(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(projector(rows), plain)
        assert torch.equal(projector.project_(rows.clone()), plain)


@pytest.mark.parametrize("batch_size", [4, 32])  # by rows, and by gradient
@pytest.mark.parametrize("form", ["projected", "factored"])
def test_bf16_keeps_every_step_inside_the_subspace(form, batch_size):
    settings = make_settings(
        compute={"precision": "bf16"},
        train={"batch_size": batch_size, "momentum": 0.9},
        methods={"ness": {"form": form, "eps1": 0.1}},
    )
    method = make_method(settings)
    for number in (1, 2):
        add_task(method, number)
        task = make_task(number)
        method.begin_task(task)
        before = {name: view.module.weight.clone() for name, view in method.layers.items()}
        optimizer = make_optimizer(method.parameter_groups(task), settings.train)
        for step in range(10):
            batch = task.train.batch(torch.arange(step, step + 4))
            optimizer.zero_grad()
            method.backward(batch, StepProgress(0, step, 5, 1))
            method.edit_gradients(batch)
            method.apply(optimizer)
        if number == 2:
            for name, view in method.layers.items():
                basis = method.memory()["basis"][f"{name}.U"]
                change = (view.module.weight - before[name]).detach()
                assert basis.shape[1] < change.shape[1]
                assert change.norm() > 0
                outside = change - change @ basis @ basis.T
                assert outside.norm() <= 1e-5 * change.norm()
        method.end_task(task)
        method.consolidate(task, lambda _: None)


def test_bf16_gradients_are_near_those_of_float32():
    gradients = {}
    for precision in ("fp32", "bf16"):
        method = make_method(make_settings(compute={"precision": precision}))
        add_task(method, 1)
        method.begin_task(make_task(1))
        method.backward(make_task(1).train.batch(slice(0, 16)), StepProgress(0, 0, 1, 1))
        gradients[precision] = [p.grad for p in method.trainable().values()]
    for full, half in zip(gradients["fp32"], gradients["bf16"], strict=True):
        assert half.dtype == torch.float32
        assert not torch.equal(full, half)
        assert (full - half).norm() <= 0.03 * full.norm()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own insides
@pytest.mark.parametrize("name", ["finetune", "ness", "gpm"])
def test_a_compiled_step_is_the_plain_step_to_rounding(name):
    gradients = {}
    for compile_ in ("off", "on"):
        settings = make_settings(
            method={"name": name}, compute={"compile": compile_}, net={"batch_norm": True}
        )
        method = make_method(settings)
        for number in (1, 2):
            add_task(method, number)
            task = make_task(number)
            method.begin_task(task)
            if number == 2:
                for size in (16, 5):  # a smaller last batch
                    batch = task.train.batch(slice(0, size))
                    for parameter in method.trainable().values():
                        parameter.grad = None
                    method.backward(batch, StepProgress(0, 0, 1, 1))
                    method.edit_gradients(batch)
                gradients[compile_] = [p.grad for p in method.trainable().values()]
            method.end_task(task)
            method.consolidate(task, lambda _: None)
    for plain, compiled in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)
