"""A few faults of every kind on one command; ``make test-faults`` tries them all on all."""

from __future__ import annotations

import random
import sys

import pytest
from faults.layer import FAULTS
from faults.scenes import IMPORTS, SCENES, World
from faults.trials import Trials
from forked import Processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths of handles from /proc")


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch, Processes(*IMPORTS) as processes:
        patch.setenv("NESS_CACHE", str(folder / "world" / "here" / "cache"))
        yield Trials(World(folder / "world", processes), folder)


@pytest.mark.parametrize("kind", list(FAULTS)[1:])
def test_after_a_fault_the_same_command_leaves_the_same_bits(trials, kind):
    scene, seen = SCENES["train-task"], len(trials.tally.losses)
    trials.strike(scene, kind, random.Random(kind).choice(trials.points(scene, kind)))
    assert trials.tally.losses[seen:] == []


def test_after_a_power_loss_the_same_command_leaves_the_same_bits(trials):
    seen = len(trials.tally.losses)
    trials.lose_power(SCENES["train-task"], most=4, rng=random.Random(1))
    assert trials.tally.losses[seen:] == []
