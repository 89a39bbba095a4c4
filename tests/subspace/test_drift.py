from __future__ import annotations

import math

import pytest
import torch

from ness_cli.subspace.drift import Drift


def test_drift_over_batches_is_the_one_of_all_images_together():
    old, new = torch.randn(7, 5), torch.randn(7, 5)
    logits, later = torch.randn(7, 3), torch.randn(7, 3)
    drift = Drift()
    for part in (slice(0, 4), slice(4, 7)):
        drift.update({"fc": old[part]}, {"fc": new[part]}, logits[part], later[part])
    found = drift.compute()
    expected = ((new - old).double().norm() / old.double().norm()).item()
    assert found["layers"]["fc"] == pytest.approx(expected, rel=1e-6)
    expected = ((later - logits).double().norm() / logits.double().norm()).item()
    assert found["logits"] == pytest.approx(expected, rel=1e-6)
    changed = (logits.argmax(1) != later.argmax(1)).float().mean().item()
    assert found["predictions_changed_percent"] == pytest.approx(100 * changed)


def test_reset_forgets_and_nothing_seen_is_no_drift():
    drift = Drift()
    drift.update({"fc": torch.ones(2, 2)}, {"fc": torch.zeros(2, 2)}, torch.eye(2), -torch.eye(2))
    assert drift.compute()["layers"]["fc"] == 1.0
    drift.reset()
    assert drift.compute() == {"layers": {}, "logits": 0.0, "predictions_changed_percent": 0.0}


def test_outputs_that_were_zero_count_as_no_drift():
    drift = Drift()
    drift.update({"fc": torch.zeros(2, 2)}, {"fc": torch.ones(2, 2)}, torch.eye(2), torch.eye(2))
    assert drift.compute()["layers"]["fc"] == 0.0
    assert math.isfinite(drift.compute()["logits"])
