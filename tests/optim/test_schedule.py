from __future__ import annotations

import math

import pytest

from ness_cli.optim.schedule import Schedule
from ness_cli.settings.sections import TrainSettings


def _plateau(**values) -> Schedule:
    return Schedule.start(TrainSettings(schedule="plateau", **values), num_steps=10)


def test_cosine_goes_from_lr_to_lr_min():
    schedule = Schedule.start(TrainSettings(schedule="cosine", lr=0.1, lr_min=0.01), num_steps=100)
    assert schedule.at(0) == pytest.approx(0.1)
    assert schedule.at(50) == pytest.approx(0.055)
    assert schedule.at(100) == pytest.approx(0.01)


def test_cosine_never_starts_above_lr():
    schedule = Schedule.start(TrainSettings(schedule="cosine", lr=1e-6, lr_min=1e-5), num_steps=10)
    assert schedule.at(5) == pytest.approx(1e-6)


def test_constant_stays():
    schedule = Schedule.start(TrainSettings(schedule="constant", lr=0.1), num_steps=100)
    assert schedule.at(0) == schedule.at(99) == 0.1
    assert [schedule.after_epoch(1.0) for _ in range(50)][-1] == (False, None)


@pytest.mark.parametrize(
    ("lr", "factor", "lr_min", "patience", "epochs_lost"),
    [
        # How many epochs without improvement the published schedules spend before they stop.
        (0.05, 2, 1e-5, 6, 78),
        (0.005, 2, 1e-5, 6, 54),
        (0.1, 3, 1e-3, 5, 25),
        (0.05, 3, 1e-3, 5, 20),
        (0.01, 3, 1e-3, 5, 15),
    ],
)
def test_plateau_stops_after_the_published_number_of_epochs(
    lr, factor, lr_min, patience, epochs_lost
):
    schedule = _plateau(lr=lr, lr_factor=float(factor), lr_min=lr_min, patience=patience)
    assert schedule.after_epoch(1.0) == (True, None)
    epochs, drop = 0, None
    while drop != 0.0:
        is_best, drop = schedule.after_epoch(1.0)  # a tie is no improvement
        assert not is_best
        epochs += 1
    assert epochs == epochs_lost


def test_improvement_refills_patience_and_nan_does_not():
    schedule = _plateau(patience=2, lr=0.1, lr_min=0.01)
    schedule.after_epoch(1.0)
    schedule.after_epoch(math.nan)
    assert schedule.after_epoch(0.5) == (True, None)
    schedule.after_epoch(math.nan)
    assert schedule.after_epoch(math.nan) == (False, 2.0)
    assert schedule.lr == pytest.approx(0.05)


def test_exponential_decays_by_its_factor_in_every_epoch():
    settings = TrainSettings(schedule="exponential", lr=0.1, lr_decay=0.5)
    schedule = Schedule.start(settings, num_steps=30, num_epochs=3)
    assert [schedule.at(step) for step in (0, 10, 20)] == pytest.approx([0.1, 0.05, 0.025])
    assert schedule.at(5) == pytest.approx(0.1 * 0.5**0.5)


@pytest.mark.parametrize("name", ["constant", "cosine"])
def test_a_warm_up_rises_in_equal_steps_and_the_rest_follows(name):
    settings = TrainSettings(schedule=name, lr=0.1, lr_min=0.0, warmup=0.1)
    schedule = Schedule.start(settings, num_steps=100)
    assert [schedule.at(step) for step in range(10)] == pytest.approx(
        [0.01 * (step + 1) for step in range(10)]
    )
    assert schedule.at(10) == pytest.approx(0.1)
    assert schedule.at(55) == pytest.approx(0.1 if name == "constant" else 0.05)
    assert schedule.at(100) == pytest.approx(0.1 if name == "constant" else 0.0)
