"""Whether disk and memory are enough for a step, asked before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from ness_cli.errors import SystemRefusedError
from ness_cli.methods.base import Method
from ness_cli.results.number_formats import human_bytes
from ness_cli.stages.context import RunContext
from ness_cli.stages.models import MODEL
from ness_cli.subspace.decomposition import WIDE

_MATRICES_PER_WORKER = 4  # a decomposition holds the matrix and what it makes of it


def file_sizes(method: Method, step: str) -> dict[str, int]:
    """Return the bytes of the files that a step writes, at most, by name.

    Args:
        method: The run's method around the model of the task.
        step: ``train`` or ``build``; any other step writes no tensors.
    """
    sizes = method.file_sizes()
    own = {file.name: sizes.get(file.name, 0) for file in method.files if file.made_by == step}
    if step != "train":
        return own
    model = sum(t.numel() * t.element_size() for t in method.model.state_dict().values())
    moments = 2 if method.train.is_adaptive else 1
    train = method.train
    copies = 1 + moments + (train.weights == "best") + (train.average > 0)
    return {MODEL: model, **own, "checkpoint": copies * model}


def build_memory(method: Method, threads: int) -> int:
    """Return about how many bytes of main memory build-subspace takes for its matrices.

    Args:
        method: The run's method.
        threads: As many wide layers are decomposed at a time.
    """
    sizes = file_sizes(method, "build")
    layers = method.layers.values()
    widths = sorted((layer.dim for layer in layers), reverse=True)
    wide = [d for d in widths if d >= WIDE][:threads]
    workers = sum(_MATRICES_PER_WORKER * 8 * d**2 for d in wide)
    held = max(sizes.values(), default=0)
    of_layers = sum(8 * d**2 for d in widths) if sizes else 0
    # What is kept is larger where groups have a matrix each; what they share is decomposed.
    new = max(held, of_layers)
    pooled = sum(8 * x.dim**2 for x in layers if x.groups > 1) if new > of_layers else 0
    return held + new + pooled + workers


def require_disk_space(context: RunContext, method: Method, step: str) -> None:
    """Refuse a step whose files the disk cannot take; note where memory may not be enough.

    What memory a step takes is an estimate, and what is available changes, so it is only a note.

    Args:
        context: The run.
        method: Its method around the model of the task.
        step: ``train`` or ``build``.

    Raises:
        SystemRefusedError: If less is free on the disk than the files of the step need.
    """
    sizes = {name: size for name, size in file_sizes(method, step).items() if size}
    need, free = sum(sizes.values()), shutil.disk_usage(context.run.path).free
    if free < need:
        raise SystemRefusedError(
            f"{context.run.path}: the disk has {human_bytes(free)} free, and this step writes up to"
            f" {human_bytes(need)} ({_listed(sizes)})",
            "free some space, or prepare the run on another disk; ness prepare --dry-run shows all"
            " that a run needs",
        )
    if step != "build":
        return
    memory, available = build_memory(method, torch.get_num_threads()), available_memory()
    if available is not None and available < memory:
        context.workplace.progress.note(
            f"building may take {human_bytes(memory)} of memory beside the network, and"
            f" {human_bytes(available)} are available; fewer --threads, or narrower layers"
            " (net.adapt) take less"
        )


def available_memory() -> int | None:
    """Return the bytes of main memory that can be had; ``None`` where the system does not tell."""
    found = [
        _field(Path("/proc/meminfo"), "MemAvailable:", unit=1024),
        _left_of_group(Path("/sys/fs/cgroup")),
    ]
    known = [size for size in found if size is not None]
    if known:
        return min(known)
    names = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" in names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _field(path: Path, name: str, *, unit: int) -> int | None:
    """Return the number after a name in a file of lines, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    values = [line.split()[1] for line in lines if line.startswith(name)]
    return unit * int(values[0]) if values else None


def _left_of_group(folder: Path) -> int | None:
    """Return what a control group, as of a container, has left of its limit."""
    try:
        limit, used = ((folder / name).read_text() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    # Without a limit the word is "max".
    return int(limit) - int(used) if limit.strip().isdigit() else None


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {human_bytes(size)}" for name, size in sizes.items())
