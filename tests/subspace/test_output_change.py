from __future__ import annotations

import pytest
import torch
from torch import nn

from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.output_change import OutputChange


def test_changes_are_those_of_a_loop_over_rows():
    generator = torch.Generator().manual_seed(0)
    weight, rows = (torch.randn(n, 5, generator=generator) for n in (3, 20))
    updates = {2: torch.randn(3, 5, generator=generator), 4: torch.zeros(3, 5)}
    sums = OutputChange(weight, updates, {2: 2.0, 4: 0.0})
    sums.add(rows[:7])
    sums.add(rows[7:])
    sums.add(rows[:0])
    found = sums.result()
    changes = [float((updates[2].double() @ row.double()).norm()) for row in rows]
    outputs = [float((weight.double() @ row.double()).norm()) for row in rows]
    one = found[2]
    assert one.rows == 20
    assert one.largest == pytest.approx(max(changes), rel=1e-5)
    assert one.rms == pytest.approx((sum(c * c for c in changes) / 20) ** 0.5, rel=1e-5)
    relative = max(c / o for c, o in zip(changes, outputs, strict=True))
    assert one.largest_relative == pytest.approx(relative, rel=1e-5)
    squares = sum(c * c for c in changes) / sum(o * o for o in outputs)
    assert one.rms_relative == pytest.approx(squares**0.5, rel=1e-5)
    slack = 1e-5 * float(updates[2].double().norm()) + 2**-23 * float(weight.double().norm())
    excess = [c - 2.0 - float(r.norm()) * slack for c, r in zip(changes, rows, strict=True)]
    assert one.excess == pytest.approx(max(excess), rel=1e-5)
    assert one.violations == sum(e > 0 for e in excess) > 0
    assert found[4].largest == found[4].violations == 0


def test_outputs_that_are_zero_count_in_nothing_relative():
    sums = OutputChange(torch.zeros(2, 3), {2: torch.ones(2, 3)}, {2: 100.0})
    sums.add(torch.ones(4, 3))
    one = sums.result()[2]
    assert (one.largest_relative, one.rms_relative) == (0.0, 0.0)
    assert one.largest > 0
    assert one.violations == 0


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_a_group_of_a_convolution_sees_its_own_rows_only(groups):
    generator = torch.Generator().manual_seed(groups)
    conv = nn.Conv2d(6, 12, 3, padding=1, stride=2, groups=groups, bias=False)
    view, x = LayerView("conv", conv), torch.randn(4, 6, 7, 7, generator=generator)
    later = torch.randn(conv.weight.shape, generator=generator)
    sums = OutputChange(
        view.matrix(),
        {2: later.flatten(1), 3: 2 * later.flatten(1)},
        {2: 1.0, 3: 1e9},
        groups=view.groups,
    )
    for part in x.split(3):
        sums.add(view.rows(part))
    # What the convolution itself puts out, per position and group: [n, groups, out / groups, ...].
    moved, output = (
        torch.nn.functional.conv2d(
            x.double(), weight.detach().double(), padding=1, stride=2, groups=groups
        ).unflatten(1, (groups, -1))
        for weight in (later, conv.weight)
    )
    changes, outputs = moved.norm(dim=2).flatten(), output.norm(dim=2).flatten()
    found = sums.result()
    one, two = found[2], found[3]
    assert one.rows == len(changes) == 4 * groups * 4 * 4
    assert one.largest == pytest.approx(float(changes.max()), rel=1e-5)
    assert two.largest == pytest.approx(2 * float(changes.max()), rel=1e-5)
    assert one.rms == pytest.approx(float(changes.square().mean().sqrt()), rel=1e-5)
    assert one.largest_relative == pytest.approx(float((changes / outputs).max()), rel=1e-4)
    relative = float((changes.square().sum() / outputs.square().sum()).sqrt())
    assert one.rms_relative == pytest.approx(relative, rel=1e-5)
    # Rounding is a ten-thousandth here: of the rows just at the bound it decides.
    lower, upper = (int((changes > b).sum()) for b in (1.01, 1.0))
    assert lower <= one.violations <= upper
    assert two.violations == 0
