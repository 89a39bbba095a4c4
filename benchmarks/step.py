"""Time of a training step of each method beside finetuning, on real digits.

Both sides run in one process, in turn, after a warm-up; medians and quartiles of the ratio are
printed and, with --out, saved as JSON.

    make bench          or    python benchmarks/step.py --rounds 30 --out step.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch

from ness_cli import registry
from ness_cli.console import Progress
from ness_cli.data.batches import Images
from ness_cli.data.prepare import prepare
from ness_cli.data.task_stream import TaskStream
from ness_cli.methods.base import Method, StepProgress, Task
from ness_cli.nets.build import build_model
from ness_cli.optim.make import make_optimizer
from ness_cli.settings.resolve import resolve

CASES = {
    "ness": ["method.name=ness"],
    "ness, factored": ["method.name=ness", "methods.ness.form=factored"],
    "ness, adam": ["method.name=ness", "train.optimizer=adam"],
    "gpm": ["method.name=gpm"],
}


class Stepper:
    """A method in the middle of its second task."""

    def __init__(self, overrides: list[str], cache: Path) -> None:
        settings = resolve("digits", overrides).settings
        stream = TaskStream(prepare(settings.data, cache, Progress()), cache, remedy="")
        torch.manual_seed(settings.seed)
        model = build_model(settings.net, settings.norm, stream.image_shape)
        kind = registry.load_class("ness_cli.methods", settings.method.name, place="method.name")
        self.method: Method = kind(model, settings.options, settings.train, seed=settings.seed)
        self.size = settings.train.batch_size
        for number in (1, 2):
            images = Images(
                stream.split(number, "train"),
                task=number,
                mean=stream.mean,
                std=stream.std,
                device=torch.device("cpu"),
            )
            task = Task(number, 10, images)
            model.add_task(number, 10)
            model.select(number)
            self.method.begin_task(task)
            self.images = images
            groups = self.method.parameter_groups(task)
            self.optimizer = make_optimizer(groups, settings.train)
            if number == 1:
                for _ in range(3):
                    self.seconds(20)
                self.method.end_task(task)
                self.method.consolidate(task, lambda _: None)

    def seconds(self, num_steps: int) -> float:
        """Make steps and return the seconds they took."""
        positions = torch.randperm(len(self.images))[: self.size]
        start = time.perf_counter()
        for step in range(num_steps):
            batch = self.images.batch(positions)
            progress = StepProgress(0, step, num_steps, 1)
            self.optimizer.zero_grad(set_to_none=True)
            self.method.backward(batch, progress)
            self.method.edit_gradients(batch)
            self.method.apply(self.optimizer)
            self.method.after_step(batch, progress)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20, help="steps per round")
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as cache:
        base = Stepper(["method.name=finetune"], Path(cache))
        for name, overrides in CASES.items():
            other = Stepper(overrides, Path(cache))
            ratios, times = [], []
            for round_number in range(arguments.rounds + 3):
                mine, theirs = other.seconds(arguments.steps), base.seconds(arguments.steps)
                if round_number >= 3:
                    ratios.append(mine / theirs)
                    times.append(1e3 * mine / arguments.steps)
            quarter = statistics.quantiles(ratios, n=4)
            results[name] = {
                "ms_per_step": statistics.median(times),
                "ratio_to_finetune": quarter[1],
                "ratio_quartiles": [quarter[0], quarter[2]],
            }
            print(
                f"{name:15} {results[name]['ms_per_step']:7.3f} ms a step, "
                f"{quarter[1]:.2f} times finetune ({quarter[0]:.2f} to {quarter[2]:.2f})"
            )
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
