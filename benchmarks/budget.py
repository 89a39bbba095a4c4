"""What a budget costs: steps with and without, in turn, and applying it once an epoch.

    python benchmarks/budget.py --rounds 7

Bounded scaling without a budget is what everything is compared with. An epoch has 74 steps, those
of 4750 images, a task of CIFAR-100 in ten.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from steps import NETS, SecondTask, save

STEPS_PER_EPOCH = 74
PLAIN = ["method.name=ness", "methods.ness.scaling=bounded", "methods.ness.eps1=5e-3"]


def measure(net: str, cache: Path, *, rounds: int, steps: int) -> dict[str, float]:
    """Return medians over rounds: milliseconds, and ratios to a step without a budget."""
    plain = SecondTask(net, PLAIN, cache)
    held = SecondTask(net, [*PLAIN, "methods.ness.budget=0.1"], cache)
    found: dict[str, list[float]] = {"step": [], "with budget": [], "apply": []}
    for round_number in range(rounds + 1):
        without, own = (side.seconds(steps) / steps for side in (plain, held))
        start = time.perf_counter()
        held.end_epoch()
        applied = time.perf_counter() - start
        if round_number:  # the first one warms up
            for name, seconds in zip(found, (without, own, applied), strict=True):
                found[name].append(1e3 * seconds)
    both = list(zip(*found.values(), strict=True))
    return {name: statistics.median(values) for name, values in found.items()} | {
        "steps alone, ratio": statistics.median(own / step for step, own, _ in both),
        "epoch, ratio": statistics.median(
            (own + applied / STEPS_PER_EPOCH) / step for step, own, applied in both
        ),
        "applied, share of an epoch": statistics.median(
            applied / STEPS_PER_EPOCH / step for step, _, applied in both
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, action="append", help="default: all of them")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4, help="steps per round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {}
    for net in arguments.net or NETS:
        with tempfile.TemporaryDirectory() as folder:
            steps = arguments.steps * (10 if net == "mlp" else 1)
            results[net] = measure(net, Path(folder), rounds=arguments.rounds, steps=steps)
        print(net, ", ".join(f"{name} {value:.3f}" for name, value in results[net].items()))
    save(arguments.out, results)


if __name__ == "__main__":
    main()
