from __future__ import annotations

import os
from functools import partial

import pytest
import torch
from factory import (
    NETS,
    add_task,
    make_method,
    make_settings,
    make_steps,
    make_task,
    make_train_step,
    shape_of,
)
from torch.utils._python_dispatch import TorchDispatchMode

from ness_cli import numerics
from ness_cli.engine.stepper import Stepper
from ness_cli.errors import SettingsError
from ness_cli.methods.step import StepProgress
from ness_cli.settings.sections import ComputeSettings
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.projected_linear import ProjectedLinear
from ness_cli.subspace.projection import Projector

UNIT = 2.0**-24  # of float32: the relative error of one rounding


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


@pytest.mark.parametrize(
    ("determinism", "before", "after"),
    [("strict", None, ":4096:8"), ("strict", ":16:8", ":16:8"), ("seeded", None, None)],
)
def test_matrix_products_on_cuda_are_made_deterministic_for_callers_from_python_too(
    determinism, before, after, monkeypatch
):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if before is not None:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before)
    numerics.configure(ComputeSettings(determinism=determinism))
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == after


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


class _Tf32OfProducts(TorchDispatchMode):
    """Notes whether TF32 was allowed in every matrix product, by the shape of its result."""

    def __init__(self):
        super().__init__()
        self.allowed = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.allowed[tuple(found.shape)] = torch.backends.cuda.matmul.allow_tf32
        return found


@pytest.mark.parametrize("augment", [False, True])
def test_what_the_projected_rows_are_multiplied_with_is_not_rounded_to_tf32(augment):
    module = torch.nn.Linear(7, 12, bias=augment)
    basis, _ = torch.linalg.qr(torch.randn(7 + augment, 3))
    view = LayerView("fc", module, augment_bias=augment)
    linear = ProjectedLinear(view, Projector(basis), batch_size=4)
    x = torch.randn(4, 7, requires_grad=True)
    products = _Tf32OfProducts()
    with numerics.tensor_cores(ComputeSettings(precision="tf32")), products:
        module(x).sum().backward()
    linear.detach()
    assert products.allowed[4, 7] is True  # of the gradient that is passed on
    assert products.allowed[12, 7 + augment] is False
    assert products.allowed[4, 3] is False


def test_compiling_with_tf32_is_refused():
    with pytest.raises(SettingsError, match=r"compute: .*precision=bf16 or fp32, or compile=off"):
        make_settings(compute={"precision": "tf32", "compile": "on"})


@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own insides
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param(None, marks=pytest.mark.slow)])
def test_compiled_bf16_leaves_the_subspace_by_float32_rounding_only(backend, monkeypatch):
    """Nothing of what GPM trains is projected a second time, so every step must be exact.

    A step adds lr dW to W. What of it lies along M, the protected directions, comes from rounding
    the projected rows (d + k products each), their product with dY (n of them), the projector
    itself, whose columns are float32, and from storing W, whose rounding is relative to W.
    """
    if backend is not None:  # the passes that trace the step, without a C++ compiler
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
        monkeypatch.setattr(numerics, "compiled", lambda model: torch.compile(model, dynamic=False))
    lr, n = 0.05, 4
    settings = make_settings(
        method={"name": "gpm"},
        methods={"gpm": {"threshold": 0.8}},
        compute={"precision": "bf16", "compile": "on"},
        train={"batch_size": n, "momentum": 0.0, "lr": lr},
    )
    method = make_method(settings)
    for task_number in (1, 2):
        add_task(method, task_number)
        task = make_task(task_number)
        method.begin_task(task)
        views = method.layers
        before = {name: view.matrix().clone() for name, view in views.items()}
        stepper = Stepper(method, task)
        bound = dict.fromkeys(views, 0.0)
        for step in range(5):
            positions = torch.arange(step, step + n)
            batch = task.train.batch(positions)
            factors = _norms_of_factors(method, batch) if task_number == 2 else {}
            stepper.step(task.train, positions, StepProgress(0, step, 5, 1))
            for name, product in factors.items():
                projector, m = method._projectors[name], method._memory[name].double()
                own = projector(torch.eye(projector.dim)).double() @ m
                terms = n + 2 * sum(projector.columns.shape)
                leak = float(own.norm()) + UNIT * terms * float(m.norm()) ** 2
                weight = float(views[name].matrix().norm())
                bound[name] += 2 * (lr * product * leak + UNIT * weight) * float(m.norm())
        if task_number == 2:
            assert all(linear.by_rows for linear in method._linears.values())
            for name, view in views.items():
                change = (view.matrix() - before[name]).double()
                outside = float((change @ method._memory[name].double()).norm())
                assert outside <= bound[name]
                # A product in bfloat16, with its unit of 2^-9, shows.
                assert bound[name] < 2.0**-11 * float(change.norm())
        method.end_task(task)
        method.consolidate(task, lambda _: None)


def _norms_of_factors(method, batch):
    """Return ||dY|| ||X|| of every layer in float32, not compiled."""
    norms, handles = {}, []
    for name, view in method.layers.items():

        def note(_module, args, y, name=name):
            x = float(args[0].norm())
            y.register_hook(lambda dy: norms.__setitem__(name, x * float(dy.norm())))

        handles.append(view.module.register_forward_hook(note))
    loss = torch.nn.functional.cross_entropy(method.model(batch.x), batch.y)
    torch.autograd.grad(loss, list(method.trainable().values()))
    for handle in handles:
        handle.remove()
    return norms


@pytest.mark.parametrize("batch_size", [4, 32])  # by rows, and by gradient
@pytest.mark.parametrize("form", ["projected", "factored"])
def test_bf16_keeps_every_step_inside_the_subspace(form, batch_size):
    settings = make_settings(
        compute={"precision": "bf16"},
        train={"batch_size": batch_size, "momentum": 0.9},
        methods={"ness": {"form": form, "eps1": 0.1}},
    )
    method = make_method(settings)
    for task_number in (1, 2):
        add_task(method, task_number)
        task = make_task(task_number)
        method.begin_task(task)
        before = {name: view.module.weight.clone() for name, view in method.layers.items()}
        for _ in make_steps(method, task, 10, size=4):
            pass
        if task_number == 2:
            for name, view in method.layers.items():
                basis = method._bases[name]
                change = (view.module.weight - before[name]).detach()
                assert basis.rank < basis.dim
                assert change.norm() > 0
                outside = change - basis.projector(change.device)(change)
                assert outside.norm() <= 1e-5 * change.norm()
        method.end_task(task)
        method.consolidate(task, lambda _: None)


def test_bf16_gradients_are_near_those_of_float32():
    gradients = {}
    for precision in ("fp32", "bf16"):
        method = make_method(make_settings(compute={"precision": precision}))
        add_task(method, 1)
        method.begin_task(make_task(1))
        method.gradients(make_train_step(method, make_task(1).train, slice(0, 16)))
        gradients[precision] = [p.grad for p in method.trainable().values()]
    for full, half in zip(gradients["fp32"], gradients["bf16"], strict=True):
        assert half.dtype == torch.float32
        assert not torch.equal(full, half)
        assert (full - half).norm() <= 0.03 * full.norm()


OPTIONS = {"hat": {"sharpness": 10.0}}  # gates that no rounding opens


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler warns of its own insides
@pytest.mark.parametrize("name", ["finetune", "ness", "gpm", "hat", "halrp", "eblora", "nsp2"])
def test_a_compiled_step_is_the_plain_step_to_rounding(name):
    gradients = {}
    for compile_ in ("off", "on"):
        settings = make_settings(
            method={"name": name},
            compute={"compile": compile_},
            net=NETS.get(name, {"batch_norm": True, "hidden": [12, 10]}),
            methods={name: OPTIONS.get(name, {})},
        )
        shape = shape_of(settings)
        method = make_method(settings, shape)
        for task_number in (1, 2):
            add_task(method, task_number)
            task = make_task(task_number, shape=shape)
            method.begin_task(task)
            for phase in method.phases(task) if task_number == 2 else ():
                method.begin_phase(task, phase)
                method.model.train()
                stepper = Stepper(method, task, phase.train)
                for step, size in enumerate((16, 5)):  # a smaller last batch
                    progress = StepProgress(0, step, 2, 1)
                    stepper.step(task.train, torch.arange(size), progress)
                found = {n: p.grad for n, p in method.trainable().items()}
                gradients[compile_] = {n: g for n, g in found.items() if g is not None}
            method.end_task(task)
            method.consolidate(task, lambda _: None)
    assert gradients["on"].keys() == gradients["off"].keys() > {"heads.2.weight"}
    for key, plain in gradients["off"].items():
        torch.testing.assert_close(gradients["on"][key], plain, rtol=1e-4, atol=1e-6, msg=key)
