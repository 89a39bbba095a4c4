"""Processes save and stop at the same steps, and ask each other about once a second."""

from __future__ import annotations

import itertools
import threading

import pytest

from ness_cli.engine import step_boundary
from ness_cli.engine.step_boundary import SECONDS_BETWEEN, StepBoundary
from ness_cli.processes import Processes
from ness_cli.stop_request import StopRequest


class _Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class _Together(Processes):
    """Two processes as threads, each of which waits for the other wherever they ask each other."""

    meeting = threading.Barrier(2, timeout=600)
    asked: list[list[int]]

    def largest(self, *values):
        self.asked[self.rank] = list(values)
        self.meeting.wait()
        found = [max(pair) for pair in zip(*self.asked, strict=True)]
        self.meeting.wait()
        return found


def _run_two(monkeypatch, *, save_seconds, step_seconds, num_steps, signal_at=None):
    """Make the steps in two processes of unlike clocks; return what each decided, step by step."""
    asked: list[list[int]] = [[], []]
    own = threading.local()
    monkeypatch.setattr(step_boundary, "current_processes", lambda: own.processes)
    decided: list[list[tuple[bool, bool]]] = [[], []]
    num_meetings = [0, 0]

    def work(rank):
        own.processes = _Together(rank, 2)
        object.__setattr__(own.processes, "asked", asked)
        clock, stop = _Clock(), StopRequest()
        boundary = StepBoundary(save_seconds, stop, clock)
        for step in range(num_steps):
            # The clocks of the two differ; that of the first one counts.
            clock.now += step_seconds * (1 if rank == 0 else 3)
            if signal_at == step and rank == 1:
                stop.request("SIGTERM")
            before = boundary.steps_left
            decided[rank].append(boundary.after_step())
            num_meetings[rank] += before == 1
            if decided[rank][-1][1]:
                break

    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=600)
        assert not thread.is_alive()
    assert decided[0] == decided[1]
    assert num_meetings[0] == num_meetings[1]
    return decided[0], num_meetings[0]


def test_two_processes_do_not_wait_for_each_other_at_every_step(monkeypatch):
    decided, meetings = _run_two(monkeypatch, save_seconds=60.0, step_seconds=0.01, num_steps=3000)
    assert 3000 * 0.01 / SECONDS_BETWEEN <= meetings <= 3000 * 0.01 / SECONDS_BETWEEN + 8
    assert not any(save for save, _ in decided)


@pytest.mark.parametrize("step_seconds", [0.003, 0.2, 4.0])
def test_a_signal_to_one_process_stops_both_within_a_second_or_a_step(monkeypatch, step_seconds):
    decided, _ = _run_two(
        monkeypatch, save_seconds=60.0, step_seconds=step_seconds, num_steps=3000, signal_at=500
    )
    save, stop = decided[-1]
    assert save
    assert stop
    assert (len(decided) - 500) * step_seconds <= max(SECONDS_BETWEEN, step_seconds) + step_seconds


def test_with_zero_seconds_every_step_is_saved(monkeypatch):
    decided, meetings = _run_two(monkeypatch, save_seconds=0.0, step_seconds=0.01, num_steps=20)
    assert decided == [(True, False)] * 20
    assert meetings == 20


def test_checkpoints_come_as_often_as_they_were_asked_for(monkeypatch):
    decided, _ = _run_two(monkeypatch, save_seconds=5.0, step_seconds=0.05, num_steps=2000)
    saves = [step for step, (save, _) in enumerate(decided) if save]
    gaps = [0.05 * (b - a) for a, b in itertools.pairwise(saves)]
    assert len(saves) >= 15
    assert all(5.0 - 1e-6 <= gap <= 5.0 + SECONDS_BETWEEN + 0.1 for gap in gaps)


@pytest.mark.parametrize("save_seconds", [0.0, 1.0])
def test_one_process_alone_decides_at_every_step(save_seconds):
    clock, stop = _Clock(), StopRequest()
    boundary = StepBoundary(save_seconds, stop, clock)
    clock.now = 0.5
    assert boundary.after_step() == (save_seconds == 0.0, False)
    stop.request("SIGTERM")
    assert boundary.after_step() == (True, True)
