"""A few real processes killed at random moments; ``make test-processes`` tries hundreds."""

from __future__ import annotations

import random

import pytest
from faults.processes import Trials


@pytest.mark.slow
def test_killed_runs_end_with_the_bits_of_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setenv("NESS_CACHE", str(tmp_path / "cache"))
    trials = Trials(tmp_path / "all", random.Random(1), has_study=False)
    trials.kill_runs(3)
    assert trials.tally.problems == []
