"""``python -m faults``: try faults on commands, and print what became of them."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from faults.layer import FAULTS
from faults.scenes import IMPORTS, SCENES, World
from faults.trials import POWER, Tally, Trials
from forked import Processes


def main() -> int:
    """Try what is asked for; return 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--scenes", default="", help="commands, separated by commas; all if empty")
    parser.add_argument("--faults", default="", help="kinds of faults, likewise")
    parser.add_argument("--most", type=int, default=0, help="of a kind for a command; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    asked = parser.parse_args()
    scenes = asked.scenes.split(",") if asked.scenes else list(SCENES)
    kinds = asked.faults.split(",") if asked.faults else [*list(FAULTS)[1:], POWER]
    memory = (
        "/dev/shm" if os.path.isdir("/dev/shm") else None
    )  # nothing here outlives a crash anyway
    with tempfile.TemporaryDirectory(dir=memory) as folder, Processes(*IMPORTS) as processes:
        os.environ["NESS_CACHE"] = str(Path(folder, "world", "here", "cache"))
        trials = Trials(World(Path(folder, "world"), processes), Path(folder))
        started = time.monotonic()
        for name in scenes:
            _try(trials, name, kinds, asked.most, asked.seed)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(table(trials.tally))
    return 1 if trials.tally.losses else 0


def _try(trials: Trials, name: str, kinds: list[str], most: int, seed: int) -> None:
    """Try all kinds of faults on a command, or as many of each as are wanted."""
    scene = SCENES[name]
    for kind in kinds:
        rng = random.Random(f"{seed} {name} {kind}")
        if kind == POWER:
            trials.lose_power(scene, most=most, rng=rng)
            continue
        points = trials.points(scene, kind)
        if most and len(points) > most:
            points = sorted(rng.sample(points, most))
        for number in points:
            trials.strike(scene, kind, number)


def table(tally: Tally) -> str:
    """Return how many faults of each kind were tried and survived, as lines of text."""
    rows = [(name, n, tally.survived[name]) for name, n in tally.tried.items()]
    rows.append(("together", sum(r[1] for r in rows), sum(r[2] for r in rows)))
    lines = [f"{'fault':<24}{'tried':>8}{'survived':>10}{'lost':>6}"]
    lines += [f"{name:<24}{tried:>8}{ok:>10}{tried - ok:>6}" for name, tried, ok in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
