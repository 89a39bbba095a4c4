"""Killed anywhere and typed again: the events of a run that nothing happened to."""

from __future__ import annotations

import csv
import json
import random
import signal
from pathlib import Path

from forked import Moment
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SETTINGS = [
    "--preset",
    "digits",
    "data.num_tasks=2",
    "data.limit_per_class=20",
    "train.epochs=3",
    "train.batch_size=64",
    "net.hidden=[16]",
    "checkpoint.seconds=0",
    "track.to=[csv,jsonl,tensorboard]",
    "--threads",
    "1",
]


def _scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    found = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def _told(run: Path) -> tuple[object, ...]:
    """Return what every tracker of a run shows, but for how long it took."""
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    rows = list(csv.DictReader((run / "events.csv").read_text().splitlines()))
    scalars = _scalars(run)
    for found in (*lines, *rows, scalars):
        found.pop("train/seconds", None)
    return lines, rows, scalars


def test_killed_at_random_moments_no_event_is_lost_and_none_is_doubled(processes, tmp_path):
    assert processes.ness("run", "--out", tmp_path / "undisturbed", *SETTINGS).code == 0
    out, rng, codes = tmp_path / "run", random.Random(3), []
    while not codes or codes[-1] != 0:
        moment = Moment(str(out), rng.randint(60, 300))
        ended = processes.ness("run", "--out", out, *SETTINGS, moment=moment)
        codes.append(ended.code)
        assert ended.code in (0, -signal.SIGKILL), ended.err
        assert len(codes) < 50
    assert len(codes) >= 3, "it must have been killed at least twice"
    lines, rows, scalars = _told(out)
    assert (lines, rows, scalars) == _told(tmp_path / "undisturbed")
    assert [line["step"] for line in lines] == [1, 2, 3, 3, 3, 4, 5, 6, 6, 6]
    assert [step for step, _ in scalars["train/loss"]] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_is_done_is_told_to_whoever_asks_later(processes, tmp_path):
    out, settings = tmp_path / "run", [s for s in SETTINGS if not s.startswith("track")]
    assert processes.ness("run", "--out", out, *settings, "data.num_tasks=1").code == 0
    assert not (out / "events.csv").exists()
    assert processes.ness("run", "--out", out, "track.to=[csv]", "--threads", "1").code == 0
    assert (out / "events.csv").read_text().count("\n") == 1 + 3 + 2
