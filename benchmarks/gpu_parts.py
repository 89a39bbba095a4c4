"""The parts of ``make gpu``: each a function of where it runs that returns what it measured."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_runs import (
    ROOT,
    Setup,
    accuracies,
    command,
    environment,
    history,
    ness,
    small,
    task_times,
    tensor_files,
)
from safetensors.torch import load_file
from steps import SecondTask, compare
from torch import nn

from ness_cli.nets.build import build_model
from ness_cli.settings.resolve import build
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.layer_view import adapted_layers

NETS = ("alexnet", "lenet", "resnet18")
VARIANTS = {
    "finetune": ("method.name=finetune",),
    "tf32": ("compute.precision=tf32",),
    "bf16": ("compute.precision=bf16",),
    "channels last": ("compute.channels_last=true",),
    "bf16, channels last": ("compute.precision=bf16", "compute.channels_last=true"),
    "seeded": ("compute.determinism=seeded",),
    "free choice of algorithms": ("compute.determinism=off",),
    # On a GPU the compiled kernels are replayed as CUDA graphs.
    "compiled": ("compute.compile=on",),
    "compiled, bf16": ("compute.compile=on", "compute.precision=bf16"),
}
# Input widths of the adapted layers: AlexNet of the CIFAR-100 benchmark, ResNet18 of torchvision.
WIDTHS = {"alexnet": (48, 512, 576, 1024, 2048), "resnet18": (64, 128, 147, 576, 1152, 2304, 4608)}
CIFAR = ("--preset", "cifar100-alexnet-ness-sgdm-parity", "data.source=image-folder")
PUBLISHED_EPOCHS, PUBLISHED_TASKS = 200, 10
CIFAR_SECONDS = 52  # of its budget; the rest is for starting, stopping and reading
WIDEST_ON_CPU = 2048  # wider ones take the CPU longer than the whole part has

Pieces = Iterator[dict[str, Any]]  # what a part has measured, as it comes to know it


class SkippedError(Exception):
    """What a part needs is not there; says what."""


def run(name: str, setup: Setup, save: Callable[[dict[str, Any]], None]) -> None:
    """Make a part, saving what is known after every piece of it."""
    found: dict[str, Any] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            for piece in PARTS[name](setup, Path(folder)):
                found |= piece
                save({"status": "unfinished", **found})
    except SkippedError as error:
        save({"status": "skipped", "why": str(error)})
    else:
        save({"status": "passed", **found})


# -- parts ---------------------------------------------------------------------------------------


def tests(setup: Setup, folder: Path) -> Pieces:
    """The tests that need a device."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run([*pytest, "tests"], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines() or ["nothing"]
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    yield {"summary": lines[-1], "failed": failed}
    if done.returncode != 0 or (setup.device == "cuda" and "passed" not in lines[-1]):
        raise RuntimeError(lines[-1])


def bits(setup: Setup, folder: Path) -> Pieces:
    """The same short run twice, for every network: byte-identical files."""
    found: dict[str, Any] = {}
    for net in NETS[:1] if setup.quick else NETS:
        runs = [folder / f"{net}-{turn}" for turn in (1, 2)]
        for out in runs:
            ness(setup, folder, "run", *small(net, setup), out=out)
        one, two = map(tensor_files, runs)
        differing = sorted(name for name in one | two if one.get(name) != two.get(name))
        found[net] = {"files": len(one), "differing": differing}
        yield {"networks": found}
    if any(each["differing"] or not each["files"] for each in found.values()):
        raise RuntimeError("strict runs do not write the same bytes")


def processes(setup: Setup, folder: Path) -> Pieces:
    """One task divided between two devices, beside the same on one."""
    if setup.device == "cuda" and torch.cuda.device_count() < 2:
        raise SkippedError("NCCL needs two devices, there is one")
    one, two = folder / "one", folder / "two"
    arguments = (*small("alexnet", setup), "net.dropout=[0.0, 0.0]")
    alone = _seconds(lambda: ness(setup, folder, "run", *arguments, "--until", "1", out=one))
    ness(setup, folder, "prepare", *arguments, out=two)
    start = time.monotonic()
    for step in ("train-task", "build-subspace"):
        ness(setup, folder, step, str(two), num_processes=2)
    divided = time.monotonic() - start
    losses = [history(run / "task-01")[-1]["train_loss"] for run in (one, two)]
    models = [load_file(run / "task-01" / "model.safetensors") for run in (one, two)]
    largest = max(float((models[0][name] - models[1][name]).abs().max()) for name in models[0])
    yield {"seconds_alone": alone, "seconds_divided": divided, "largest_difference": largest}
    if abs(losses[0] - losses[1]) > 1e-2 * abs(losses[0]):
        raise RuntimeError(f"losses {losses} of one and of two processes")


def steps(setup: Setup, folder: Path) -> Pieces:
    """Step times of every way to compute, as ratios to fp32, eager, strict."""
    found: dict[str, Any] = {}
    errors = []
    for net in ("mlp",) if setup.quick else ("alexnet", "resnet18"):
        found[net] = {}
        plain = SecondTask(net, ["method.name=ness"], folder / "cache", setup.device).seconds
        for name, overrides in VARIANTS.items():
            try:
                side = SecondTask(net, list(overrides), folder / "cache", setup.device).seconds
                both = {"fp32": plain, name: side}
                rounds, size = (2, 1) if setup.quick else (8, 10)
                found[net] |= compare(both, "fp32", rounds=rounds, steps=size)
            except Exception as error:  # a way that a device cannot go is a finding, not an end
                found[net][name] = {"error": f"{type(error).__name__}: {error}"}
                errors.append(f"{net}, {name}")
            yield {"networks": found}
    if errors:
        raise RuntimeError(f"failed: {'; '.join(errors)}")


def build_times(setup: Setup, folder: Path) -> Pieces:
    """Seconds of covariances and of eigendecompositions, on the device and on the CPU."""
    images = 8 if setup.quick else 1000
    nets = {"alexnet": {"name": "alexnet"}, "resnet18": {"name": "torchvision"}}
    nets["resnet18"] |= {"model": "resnet18"}
    covariances: dict[str, Any] = {}
    for name, net in nets.items():
        settings = build({"net": net})
        model = build_model(settings.net, settings.norm, (3, 32, 32)).backbone
        one_pass = partial(_one_pass, model.to(setup.device).eval(), images, setup)
        covariances[name] = {"images": images, "seconds": _median(one_pass, setup)}
        yield {"covariances": covariances}
    times: dict[str, dict[int, Any]] = {}
    for name, widths in WIDTHS.items():
        times[name] = {}
        for dim in widths[:2] if setup.quick else widths:
            times[name][dim] = _decompositions(dim, setup)
            yield {"decompositions": times}


def cifar(setup: Setup, folder: Path) -> Pieces:
    """A seed of the published setting, as far as the time goes, extrapolated to its length."""
    if not setup.data:
        raise SkippedError("no DATA was given: CIFAR-100 as an image folder, zip or several zips")
    run = folder / "run"
    arguments = [*CIFAR, f"data.path={json.dumps(list(setup.data))}", "--seed", "1"]
    if setup.quick:
        arguments += ["train.epochs=1", "net.width=0.05", "data.num_tasks=2"]
    code = _for_a_time(command(setup, "run", *arguments, out=run), folder)
    tasks = [task_times(path) for path in sorted(run.glob("task-*"))]
    yield {"is_whole": code == 0 and not setup.quick, "tasks": tasks}
    trained = [task for task in tasks if task["epochs"]]
    if not trained:
        raise RuntimeError(f"not one epoch in {CIFAR_SECONDS} s")
    epoch = statistics.median(task["train_seconds"] / task["epochs"] for task in trained)
    rest = [task["rest_seconds"] for task in trained if task["rest_seconds"] is not None]
    longest = PUBLISHED_EPOCHS * epoch + (statistics.median(rest) if rest else 0.0)
    yield {
        "accuracies": accuracies(run),
        "seconds_per_epoch": epoch,
        "seconds_per_task_of_200_epochs": longest,
        "seconds_per_seed_of_10_tasks": PUBLISHED_TASKS * longest,
    }


def seeds(setup: Setup, folder: Path) -> Pieces:
    """Five seeds at once on the one device, beside one alone: time, and the same bytes."""
    arguments = (*small("alexnet", setup), "--threads", "1")
    many = ("--seeds", "1,2,3,4,5", "--jobs", "5")
    # Alone comes first and prepares the images.
    alone = _seconds(lambda: ness(setup, folder, "run", *arguments, out=folder / "one"))
    five = _seconds(lambda: ness(setup, folder, "run", *arguments, *many, out=folder / "five"))
    yield {"seconds_alone": alone, "seconds_five": five, "ratio": five / alone}
    if tensor_files(folder / "one") != tensor_files(folder / "five" / "seed-1"):
        raise RuntimeError("seed 1 beside four others is not the seed 1 that ran alone")


PARTS: dict[str, Callable[[Setup, Path], Pieces]] = {
    "tests": tests,
    "bits": bits,
    "processes": processes,
    "steps": steps,
    "build": build_times,
    "cifar": cifar,
    "seeds": seeds,
}


def _for_a_time(arguments: list[str], folder: Path) -> int:
    """Run a command, asking it to stop when its time is over; return 0 or 75."""
    process = subprocess.Popen(
        arguments, env=environment(folder), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, said = process.communicate(timeout=CIFAR_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    if process.returncode not in (0, 75):
        raise RuntimeError(said.decode().strip().splitlines()[-1])
    return process.returncode


def _one_pass(model: nn.Module, images: int, setup: Setup) -> None:
    """Sum up the inputs of all layers over random images."""
    x = torch.randn(min(images, 500), 3, 32, 32, device=setup.device)
    accumulator = CovarianceAccumulator(adapted_layers(model, None))
    with torch.no_grad(), accumulator.accumulate():
        for _ in range(images // len(x)):
            model(x)
    accumulator.covariances()


def _decompositions(dim: int, setup: Setup) -> dict[str, float]:
    x = torch.randn(2 * dim, dim, dtype=torch.float64)
    covariance = x.T @ x
    devices = ["cpu"] if dim <= WIDEST_ON_CPU else []
    devices += [setup.device] if setup.device != "cpu" else []
    return {
        device: _median(partial(torch.linalg.eigh, covariance.to(device)), setup)
        for device in devices
    }


def _median(action: Callable[[], object], setup: Setup, rounds: int = 3) -> float:
    """Return the median seconds of an action, after a warm-up."""
    times = []
    for _ in range(1 + (1 if setup.quick else rounds)):
        start = time.perf_counter()
        action()
        if setup.device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _seconds(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start
