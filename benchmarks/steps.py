"""Time of a training step beside finetuning, on real digits, for several networks.

All sides run in one process and in turn, after a warm-up; medians and quartiles of the ratios are
printed and, with --out, saved as JSON. Task 2 is timed, as every later task costs the same.

    make bench          or    python benchmarks/steps.py --net alexnet --rounds 30 --out steps.json

What `ness methods` says of every method, and the table of docs/performance.md, are made by

    python benchmarks/steps.py --family --net mlp --net alexnet --out ness_cli/cli/step_costs.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

from ness_cli import numerics, registry
from ness_cli.allocator import keep_freed_memory
from ness_cli.console import Progress
from ness_cli.data.batches import Images
from ness_cli.data.store import prepare
from ness_cli.data.task_stream import TaskStream
from ness_cli.engine.score import record_statistics
from ness_cli.engine.stepper import Stepper
from ness_cli.methods.base import Method
from ness_cli.methods.step import StepProgress
from ness_cli.methods.task import Task
from ness_cli.nets.build import build_model
from ness_cli.settings.components import METHODS as MEMBERS
from ness_cli.settings.resolve import resolve
from ness_cli.stages.kept import carried

IMAGES = ["data.size=32", "data.channels=rgb", "norm.statistics=task", "train.weight_decay=1e-4"]
NETS = ("mlp", "alexnet", "resnet18")
METHODS = {
    "ness": ["method.name=ness"],
    "ness, bounded": ["method.name=ness", "methods.ness.scaling=bounded"],
    "gpm": ["method.name=gpm"],
    "sgp": ["method.name=sgp"],
    "code-cl": ["method.name=code-cl"],
    "code-cl, nothing mixed": ["method.name=code-cl", "methods.code-cl.mix=0"],
    "ness, factored": ["method.name=ness", "methods.ness.form=factored"],
    "ness, adam": ["method.name=ness", "train.optimizer=adam"],
    "ness, bf16": ["method.name=ness", "compute.precision=bf16"],
    "ness, channels first": ["method.name=ness", "compute.channels_last=false"],
}
FAMILY = {
    "finetune, sam": ["method.name=finetune", "train.sam.tasks=all"],
    "ness, bounded": METHODS["ness, bounded"],
    "code-cl, nothing mixed": METHODS["code-cl, nothing mixed"],
    "dfgp, nothing mixed": ["method.name=dfgp", "methods.dfgp.mixed_loss=0"],
} | {
    name: [f"method.name={name}"]
    for name in MEMBERS.names()
    if name not in ("finetune", "nsp2")  # prompts need a vision transformer
}
NUM_TASKS = 10  # of which memory is given


class SecondTask:
    """A method in the middle of its second task.

    Attributes:
        clock: What seconds are read from.
        warm_up: Steps of task 1, and of what comes before the last phase of task 2.
    """

    clock = staticmethod(time.perf_counter)
    warm_up = 20

    def __init__(self, net: str, overrides: list[str], cache: Path, device: str = "cpu") -> None:
        settings = _settings(net, overrides)
        self.device = torch.device(device)
        self.compute = settings.compute.on(self.device.type)
        numerics.configure(self.compute)
        keep_freed_memory()  # as every command does
        stream = TaskStream(prepare(settings.stream, cache, Progress()), cache)
        torch.manual_seed(settings.seed)
        model = build_model(settings.net, settings.norm, stream.image_shape)
        model.to(self.device)
        kind = registry.load_class("ness_cli.methods", settings.method.name, setting="method.name")
        if self.compute.channels_last:
            model.to(memory_format=torch.channels_last)
        self.method: Method = kind(
            model, settings.options, settings.train, seed=settings.seed, compute=settings.compute
        )
        self.size = settings.train.batch_size
        for task_number in (1, 2):
            info = stream.info(task_number)
            split = stream.split(task_number, "train")
            self.images = Images(
                split, task=task_number, mean=info.mean, std=info.std, device=self.device
            )
            task = Task(task_number, info.num_classes, self.images)
            model.add_task(task_number, info.num_classes)
            model.to(self.device)
            model.select(task_number)
            self.task = task
            self.method.begin_task(task)
            phases = self.method.phases(task)
            for phase in phases:
                self.method.begin_phase(task, phase)
                self.stepper = Stepper(self.method, task, phase.train)
                if task_number == 1 or phase is not phases[-1]:
                    self.seconds(self.warm_up)
            if task_number == 1:
                self.method.end_task(task)
                record_statistics(self.method, self.method.statistics_sets(task))
                self.method.consolidate(task, lambda _: None)

    def seconds(self, num_steps: int) -> float:
        """Make steps and return the seconds they took."""
        numerics.configure(self.compute)
        self.method.model.train()
        positions = torch.randperm(len(self.images))[: self.size]
        self._wait()
        start = self.clock()
        for step in range(num_steps):
            self.stepper.step(self.images, positions, StepProgress(0, step, num_steps, 1))
        self._wait()
        return self.clock() - start

    def memory_bytes(self) -> int | None:
        """Return the most bytes kept besides the model after ``NUM_TASKS`` tasks.

        ``None`` for a method that keeps all images, which are as many as there are.
        """
        if self.method.options.uses_past_data("train"):
            return None
        sizes = self.method.file_sizes()
        files = carried(self.method, NUM_TASKS).items()
        return sum(sizes.get(name, 0) * len(tasks) for name, tasks in files)

    def end_epoch(self) -> None:
        """Do what the method does at the end of an epoch."""
        self.method.after_epoch(self.task)
        self._wait()

    def _wait(self) -> None:
        """Wait for what the device still has to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class PlainLoop:
    """The same network trained by a loop as anybody would write it.

    Attributes:
        clock: What seconds are read from.
    """

    clock = staticmethod(time.perf_counter)

    def __init__(self, net: str, cache: Path) -> None:
        settings = _settings(net, [])
        stream = TaskStream(prepare(settings.stream, cache, Progress()), cache)
        torch.manual_seed(settings.seed)
        self.model = build_model(settings.net, settings.norm, stream.image_shape)
        self.model.add_task(1, 10)
        self.model.select(1)
        train, info, split = settings.train, stream.info(1), stream.split(1, "train")
        mean, std = (torch.tensor(v)[:, None, None] for v in (info.mean, info.std))
        self.images = (split.images.float() / 255 - mean) / std
        self.labels = split.labels
        self.size = train.batch_size
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), train.lr, train.momentum, weight_decay=train.weight_decay
        )

    def seconds(self, num_steps: int) -> float:
        """Make steps and return the seconds they took."""
        self.model.train()
        positions = torch.randperm(len(self.labels))[: self.size]
        start = self.clock()
        for _ in range(num_steps):
            loss = functional.cross_entropy(
                self.model(self.images[positions]), self.labels[positions]
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return self.clock() - start


def _settings(net: str, overrides: list[str]):
    preset = {"mlp": "net: {hidden: [512, 512]}"}.get(net, f"net: {{name: {net}}}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.yaml"
        path.write_text(f"data: {{num_tasks: 2}}\n{preset}\ntrain: {{lr: 0.01}}\n")
        return resolve(str(path), [*(IMAGES if net != "mlp" else []), *overrides]).settings


def compare(
    sides: dict[str, Callable[[int], float]], base: str, *, rounds: int, steps: int
) -> dict[str, dict[str, float | list[float]]]:
    """Time all sides in turn and return medians, and ratios to ``base`` within each round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(rounds + 2):
        for name, seconds in sides.items():
            taken = seconds(steps)
            if round_number >= 2:
                times[name].append(taken / steps)
    found: dict[str, dict[str, float | list[float]]] = {}
    for name, own in times.items():
        ratios = [mine / theirs for mine, theirs in zip(own, times[base], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        found[name] = {
            "ms_per_step": 1e3 * statistics.median(own),
            "ratio": middle,
            "ratio_quartiles": [low, high],
        }
    return found


def save(path: Path | None, results: object) -> None:
    """Write results as JSON, if a place is given."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: who saves more than once may be stopped in between.
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.write_text(json.dumps(results, indent=2) + "\n")
        unfinished.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, action="append", help="default: all of them")
    parser.add_argument("--family", action="store_true", help="every method, with its defaults")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5, help="steps per round")
    parser.add_argument("--warm-up", type=int, default=20, help="steps of task 1")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="time of the processor, not of the clock: for one thread on a busy machine",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    SecondTask.warm_up = arguments.warm_up
    if arguments.cpu_time:
        SecondTask.clock = PlainLoop.clock = staticmethod(time.process_time)
    sides = FAMILY if arguments.family else METHODS
    results = {}
    for net in arguments.net or NETS:
        steps = arguments.steps * (10 if net == "mlp" else 1)
        results[net] = _timed(net, sides, rounds=arguments.rounds, steps=steps)
        print(f"{net}, batch 64, {arguments.threads} threads")
        for name, row in results[net].items():
            low, high = row["ratio_quartiles"]
            print(
                f"  {name:22} {row['ms_per_step']:8.2f} ms a step, {row['ratio']:.2f} times"
                f" finetune ({low:.2f} to {high:.2f})"
            )
        save(arguments.out, results)


def _timed(net: str, methods: dict[str, list[str]], *, rounds: int, steps: int) -> dict[str, dict]:
    """Return, by side, times and ratios on a network, and what a method keeps at most."""
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        rivals = {"finetune": SecondTask(net, ["method.name=finetune"], cache)}
        rivals |= {name: SecondTask(net, typed, cache) for name, typed in methods.items()}
        sides = {name: side.seconds for name, side in rivals.items()}
        sides["plain loop"] = PlainLoop(net, cache).seconds
        found = compare(sides, "finetune", rounds=rounds, steps=steps)
        memory = {name: {"memory_bytes": side.memory_bytes()} for name, side in rivals.items()}
    return {name: row | memory.get(name, {}) for name, row in found.items()}


if __name__ == "__main__":
    main()
