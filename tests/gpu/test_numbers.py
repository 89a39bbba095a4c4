"""Numbers of a device beside those of the CPU, to bounds derived from rounding."""

from __future__ import annotations

import pytest
import torch
from factory import add_task, make_images, make_method, make_settings, make_steps
from rounding import assert_same_gram, gamma
from torch import nn

from ness_cli import numerics
from ness_cli.methods.task import Task
from ness_cli.settings.sections import ComputeSettings
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.layer_view import adapted_layers
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.spectrum import spectrum

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _strict():
    numerics.configure(ComputeSettings())
    yield
    numerics.configure(ComputeSettings())


def _layers(device: torch.device):
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(16, 16, 3, groups=4, bias=False),
        nn.Flatten(),
        nn.Linear(700, 40, bias=False),
    )
    return adapted_layers(net.to(device), None)


def test_covariances_of_the_device_are_those_of_the_cpu_to_rounding(device):
    cpu = torch.device("cpu")
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "0": torch.randn(37, 3, 16, 16, generator=generator),
        "1": torch.randn(37, 16, 8, 8, generator=generator),
        "3": torch.randn(300, 700, generator=generator).relu(),
    }
    sums = {}
    for where in (cpu, device):
        accumulator = CovarianceAccumulator(_layers(where))
        for name, x in inputs.items():
            accumulator.add(name, x.to(where))
        sums[where] = accumulator.covariances()
    for name, layer in _layers(cpu).items():
        found, expected = sums[device][name], sums[cpu][name]
        assert (found.dtype, found.device) == (torch.float64, cpu)
        assert_same_gram(found, expected, len(layer.rows(inputs[name])))


@pytest.mark.parametrize("dim", [3, 200, 700])
def test_spectra_of_the_device_are_those_of_the_cpu_to_rounding(device, dim):
    generator = torch.Generator().manual_seed(dim)
    # Rank deficient, over twelve decades: what a layer of a trained network sees.
    x = torch.randn(2 * dim, dim, dtype=torch.float64, generator=generator)
    x *= torch.logspace(-6, 0, dim, dtype=torch.float64)
    x[:, : dim // 3] = 0
    covariance = x.T @ x
    one, two = spectrum(covariance, layer="fc"), spectrum(covariance.to(device), layer="fc")
    # Both are exact for a matrix within p(d) u ||C|| of C, and eigenvalues move no further (Weyl).
    bound = 2 * gamma(10 * dim) * float(covariance.norm())
    difference = one.sigma.square() - two.sigma.cpu().square()
    assert float(difference.abs().max()) <= bound
    vectors = two.vectors.cpu()
    identity = torch.eye(dim, dtype=torch.float64)
    assert float((vectors.T @ vectors - identity).abs().max()) <= gamma(100 * dim)
    again = vectors @ torch.diag(two.sigma.cpu().square()) @ vectors.T
    assert float((again - covariance).norm()) <= gamma(100 * dim) * float(covariance.norm())


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("rank", [20, 90])
def test_a_projection_is_float32_whatever_the_precision_of_the_step(device, precision, rank):
    generator = torch.Generator().manual_seed(rank)
    full, _ = torch.linalg.qr(torch.randn(100, 100, dtype=torch.float64, generator=generator))
    basis = full[:, :rank].float()
    rows = torch.randn(64, 100, generator=generator)
    settings = ComputeSettings(precision=precision)
    projector = Projector(basis.to(device))
    step = (numerics.tensor_cores(settings), numerics.lower_precision(settings, device))
    with step[0], step[1]:
        found = projector(rows.to(device)).cpu()
    dense = basis.double() @ basis.double().T
    error = float((rows.double() @ dense - found.double()).norm() / rows.norm())
    # Rounding of float32 is 6e-8 an operation, of TF32 5e-4, of bfloat16 4e-3.
    assert error <= 1e-5


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("batch_size", [4, 32])  # by rows, and by gradient
def test_steps_on_the_device_stay_inside_the_subspace(device, precision, batch_size):
    settings = make_settings(
        compute={"precision": precision},
        net={"hidden": [48, 40]},
        train={"batch_size": batch_size, "momentum": 0.9},
        methods={"ness": {"eps1": 0.1}},
    )
    method = make_method(settings)
    for task_number in (1, 2):
        add_task(method, task_number)
        method.model.to(device)
        task = Task(task_number, 3, make_images(task_number, device=device))
        method.begin_task(task)
        before = {name: view.matrix().clone() for name, view in method.layers.items()}
        for _ in make_steps(method, task, 10, size=4):
            pass
        if task_number == 2:
            for name, projector in method.projectors(task).items():
                change = (method.layers[name].matrix() - before[name]).detach()
                outside = change - projector(change)
                assert change.norm() > 0
                assert outside.norm() <= 1e-5 * change.norm(), name
        method.end_task(task)
        method.consolidate(task, lambda _: None)
