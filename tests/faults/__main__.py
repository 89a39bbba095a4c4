"""``python -m faults``: try faults on commands, and print what became of them."""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from faults.layer import FAULTS
from faults.power import MODES
from faults.scenes import IMPORTS, LIBRARIES, SCENES, World
from faults.trials import POWER, TWICE, Tally, Trials
from forked import Processes


def main() -> int:
    """Try what is asked for; return 1 if something was lost."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--scenes", default="", help="commands, separated by commas; all if empty")
    parser.add_argument("--faults", default="", help="kinds of faults, likewise")
    parser.add_argument("--most", type=int, default=0, help="of a kind for a command; 0: all")
    parser.add_argument("--minutes", type=float, default=0, help="of time; 0: as long as it takes")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    asked = parser.parse_args()
    scenes = asked.scenes.split(",") if asked.scenes else list(SCENES)
    kinds = asked.faults.split(",") if asked.faults else [*list(FAULTS)[1:], TWICE, POWER]
    # Nothing here outlives a crash anyway.
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    libraries = (library for name in scenes for library in LIBRARIES.get(name, ()))
    imports = [*IMPORTS, *dict.fromkeys(libraries)]
    with tempfile.TemporaryDirectory(dir=memory) as folder, Processes(*imports) as processes:
        os.environ["NESS_CACHE"] = str(Path(folder, "world", "here", "cache"))
        trials = Trials(World(Path(folder, "world"), processes), Path(folder))
        started = time.monotonic()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        not_tried: list[str] = []
        for name in scenes:
            if asked.minutes and time.monotonic() - started > 60 * asked.minutes:
                not_tried.append(f"{name}: no time left")
                continue
            try:
                _try(trials, name, kinds, asked.most, asked.seed)
                assert any(scene == name for _, scene in trials.tally.tried), "no fault struck"
            except KeyboardInterrupt:
                not_tried.append(f"{name} and what comes after it: interrupted")
                break  # what was tried counts
            except AssertionError as error:
                not_tried.append(f"{name}: {error}")
                print(f"not tried: {not_tried[-1]}", file=sys.stderr)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(table(trials.tally, 0, "fault"), table(trials.tally, 1, "command"), sep="\n\n")
    for each in not_tried:
        print(f"not tried, or not to its end: {each}")
    return 1 if trials.tally.losses or not_tried else 0


def _try(trials: Trials, name: str, kinds: list[str], most: int, seed: int) -> None:
    """Try all kinds of faults on a command, or as many of each as are wanted."""
    scene = SCENES[name]
    for kind in kinds:
        rng = random.Random(f"{seed} {name} {kind}")
        if kind == POWER:
            disks = trials.disks(scene)
            for mode in MODES:
                found = [disk for disk in disks if disk["mode"] == mode]
                for disk in rng.sample(found, min(most or len(found), len(found))):
                    trials.lose_power(scene, disk)
        elif kind == TWICE:
            for _ in range(most or len(trials.points(scene, "kill -9"))):
                trials.strike_twice(scene, rng)
        else:
            points = trials.points(scene, kind)
            for number in sorted(rng.sample(points, min(most or len(points), len(points)))):
                trials.strike(scene, kind, number)


def table(tally: Tally, by: int, title: str) -> str:
    """Return how many faults were tried and survived, by kind (0) or command (1), as text.

    After how many of them a command ended with 0 shows whether a kind of fault is felt at all.
    """
    tried, survived, unnoticed = Counter[str](), Counter[str](), Counter[str]()
    for key, number in tally.tried.items():
        for row in (key[by], "together"):
            tried[row] += number
            survived[row] += tally.survived[key]
            unnoticed[row] += tally.unnoticed[key]
    rows = [*(row for row in tried if row != "together"), "together"]
    lines = [f"{title:<24}{'tried':>8}{'survived':>10}{'lost':>6}{'exit code 0':>13}"]
    lines += [
        f"{row:<24}{tried[row]:>8}{survived[row]:>10}{tried[row] - survived[row]:>6}"
        f"{unnoticed[row]:>13}"
        for row in rows
    ]
    return "\n".join([*lines, *([f"missed: {len(tally.missed)}"] if tally.missed else [])])


if __name__ == "__main__":
    sys.exit(main())
