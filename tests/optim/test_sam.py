from __future__ import annotations

import torch
from torch import nn

from ness_cli.optim.sam import perturbed


def test_the_step_has_length_rho_along_the_gradient_and_is_undone_to_the_bit():
    a, b, idle = (nn.Parameter(torch.randn(3)) for _ in range(3))
    before = a.detach().clone()
    a.grad, b.grad = torch.tensor([3.0, 0, 0]), torch.tensor([0, 4.0, 0])
    with perturbed([a, b, idle], lambda p: p.grad, rho=0.5):
        torch.testing.assert_close(a - before, torch.tensor([0.3, 0, 0]))
        torch.testing.assert_close((a - before).norm() ** 2 + 0.4**2, torch.tensor(0.25))
        a.grad.zero_()  # the second backward pass reuses the gradients
    assert torch.equal(a, before)
    assert idle.grad is None


def test_a_zero_gradient_moves_nothing():
    a = nn.Parameter(torch.ones(2))
    a.grad = torch.zeros(2)
    with perturbed([a], lambda p: p.grad, rho=0.5):
        assert torch.equal(a, torch.ones(2))


def test_the_norm_is_that_of_the_subspaces_coordinates():
    """With d = P g the norm is sqrt(<g, d>), which is |P g| for a projection."""
    a = nn.Parameter(torch.zeros(2))
    a.grad = torch.tensor([3.0, 4.0])
    with perturbed([a], lambda p: p.grad * torch.tensor([1.0, 0.0]), rho=1.0):
        torch.testing.assert_close(a.detach(), torch.tensor([1.0, 0.0]))
