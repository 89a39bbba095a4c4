"""A few faults of every kind on one command; ``make test-faults`` tries them all on all."""

from __future__ import annotations

import random
import sys

import pytest
from faults.layer import FAULTS
from faults.scenes import SCENES, World
from faults.trials import TWICE, Trials

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths of handles from /proc")


@pytest.fixture(scope="module")
def trials(tmp_path_factory, processes):
    folder = tmp_path_factory.mktemp("faults")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NESS_CACHE", str(folder / "world" / "here" / "cache"))
        yield Trials(World(folder / "world", processes), folder)


def _assert_survived(trials, kind, number=1):
    assert trials.tally.losses + trials.tally.missed == []
    assert sum(n for (own, _), n in trials.tally.survived.items() if own.startswith(kind)) == number


@pytest.mark.parametrize("kind", list(FAULTS)[1:])
def test_after_a_fault_the_same_command_leaves_the_same_files(trials, kind):
    scene = SCENES["train-task"]
    trials.strike(scene, kind, random.Random(kind).choice(trials.points(scene, kind)))
    _assert_survived(trials, kind)


def test_after_two_kills_the_same_command_leaves_the_same_files(trials):
    trials.strike_twice(SCENES["train-task"], random.Random(1))
    _assert_survived(trials, TWICE)


def test_after_a_power_loss_the_same_command_leaves_the_same_files(trials):
    scene = SCENES["train-task"]
    for disk in random.Random(1).sample(trials.disks(scene), 4):
        trials.lose_power(scene, disk)
    _assert_survived(trials, "power loss", 4)
