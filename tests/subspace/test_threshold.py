"""Every rule against its definition, worked out by hand or the plain way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from ness_cli.errors import SettingsError
from ness_cli.settings.methods.ness import Options
from ness_cli.settings.resolve import build
from ness_cli.subspace.threshold import RULES, threshold


def _sigma(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("rule", "eps1", "tau"),
    [
        ("nuclear", 0.1, 0.7),
        ("frobenius", 0.1, 0.5),
        ("rms", 0.1, 5 / 2**0.5 / 10),
        # Energies 9 and 16 of 25: 9/25 = 0.36.
        ("energy", 0.36, 3.0),
        ("energy", 0.35, 0.0),
        ("energy", 1.0, 4.0),
        ("knee", 0.5, 0.0),
    ],
)
def test_small_cases_by_hand(rule, eps1, tau):
    assert threshold(_sigma(3.0, 4.0), rule=rule, eps1=eps1) == pytest.approx(tau)


def test_the_knee_is_where_eigenvalues_bend_most():
    # Descending eigenvalues 100, 80, 60, 5, 4, 3: the bend is at 5.
    sigma = _sigma(3.0, 4.0, 5.0, 60.0, 80.0, 100.0).sqrt()
    assert threshold(sigma, rule="knee", eps1=1.0) == pytest.approx(5.0**0.5)


def test_the_knee_of_a_long_spectrum_is_that_of_the_smoothed_one():
    generator = torch.Generator().manual_seed(0)
    steep, flat = torch.linspace(100, 10, 60), torch.linspace(9.9, 0, 200)
    values = torch.cat([steep, flat]).double() + 0.01 * torch.rand(260, generator=generator)
    sigma = values.sort().values.clamp(min=0).sqrt()
    smooth = gaussian_filter1d(sigma.square().flip(0).numpy(), 10, mode="nearest", truncate=4.0)
    bend = np.diff(smooth, 2)
    ends = int(0.015 * 260)
    index = ends + int(bend[ends : len(bend) - ends].argmax()) + 1
    found = threshold(sigma, rule="knee", eps1=1.0)
    assert found == pytest.approx(float(sigma.flip(0)[index]))
    assert 45 < index < 75


@pytest.mark.parametrize("rule", RULES)
def test_no_signal_opens_every_direction(rule):
    sigma = torch.zeros(5, dtype=torch.float64)
    assert int((sigma <= threshold(sigma, rule=rule, eps1=1e-3)).sum()) == 5


@pytest.mark.parametrize("rule", RULES)
def test_one_direction_is_no_error(rule):
    assert threshold(_sigma(2.0), rule=rule, eps1=0.1) >= 0


def test_rules_and_options_name_the_same():
    assert set(Options.model_fields["threshold"].annotation.__args__) == set(RULES)


@pytest.mark.parametrize("rule", ["rms", "energy"])
def test_rules_without_a_published_eps1_need_one(rule):
    raw = {"methods": {"ness": {"threshold": rule}}}
    with pytest.raises(SettingsError, match=r"methods\.ness\.eps1: is required"):
        build(raw)
    raw["methods"]["ness"]["eps1"] = 0.1
    assert build(raw).options.eps1_of("fc1") == 0.1


def test_eps1_of_single_layers():
    options = Options(layer_eps1={"conv*": 0.1, "conv2": 0.2})
    assert [options.eps1_of(n) for n in ("fc1", "conv1", "conv2")] == [1e-3, 0.1, 0.2]
