"""What preparing a run would make, with nothing written: tasks, layers, bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ness_cli import registry
from ness_cli.data.augment import Augment
from ness_cli.data.stream_manifest import plan
from ness_cli.errors import SettingsError
from ness_cli.memory import short_of_memory
from ness_cli.methods.base import Method
from ness_cli.nets.build import build_model
from ness_cli.nets.determinism import refuse_nondeterministic
from ness_cli.settings.model import Settings
from ness_cli.stages.context import METHODS
from ness_cli.stages.models import MODEL
from ness_cli.stages.resources import build_memory

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Plan:
    """What preparing a run would make.

    Attributes:
        manifest: The stream with counts; ``missing`` says what cannot be listed.
        layers: Name, width of input ``d`` and outputs ``out`` of every layer that tasks after the
            first train in.
        frozen: Parameters that they do not train, by size.
        bytes_per_task: Bytes of each file of a task, at most.
        newest_only: Those of them that ``storage.keep=latest`` keeps of the newest task only; of
            the model that of task 1 stays too.
        build_memory: About how much main memory build-subspace takes beside the network, in bytes;
            with as many threads as torch would use.
    """

    manifest: Mapping[str, Any]
    layers: tuple[Mapping[str, Any], ...]
    frozen: Mapping[str, int]
    bytes_per_task: Mapping[str, int]
    newest_only: frozenset[str]
    build_memory: int

    def total_bytes(self, keep: str) -> int:
        """Return the bytes that a whole run takes, at most, with ``storage.keep``."""
        num_tasks = len(self.manifest["tasks"])
        total = 0
        for name, size in self.bytes_per_task.items():
            is_newest_only = keep == "latest" and name in self.newest_only
            copies = (2 if name == MODEL else 1) if is_newest_only else num_tasks
            total += size * min(copies, num_tasks)
        return total


def plan_run(settings: Settings, manifest: Mapping[str, Any] | None = None) -> Plan:
    """Plan a run.

    Args:
        settings: Those of the run.
        manifest: Its planned stream, where that is known: listing images takes its time.

    Raises:
        SettingsError: If the settings do not fit each other or the data.
        InputError: If the images cannot be read.
    """
    manifest = plan(settings.stream) if manifest is None else manifest
    method = check_fit(settings, manifest)
    layers = [
        {"layer": name, "d": view.dim, "out": view.out} for name, view in method.layers.items()
    ]
    newest_only = {file.name for file in method.files if file.needed == "newest"} | {MODEL}
    sizes = {MODEL: _model_bytes(manifest, method), **method.file_sizes()}
    memory = build_memory(method, torch.get_num_threads())
    return Plan(manifest, tuple(layers), method.frozen(), sizes, frozenset(newest_only), memory)


def check_fit(
    settings: Settings, manifest: Mapping[str, Any], device: torch.device = CPU
) -> Method:
    """Return the method around an untrained network, if all of it fits the tasks and a device.

    Raises:
        SettingsError: If network or augmentation cannot take the images, a shared head would stand
            over different labels, validation images are needed and there are none, batches of one
            would be normalised by themselves, or the network cannot be trained on the device as
            deterministically as asked for.
    """
    with short_of_memory("choose a smaller network, or make the images smaller (data.size)"):
        model = build_model(settings.net, settings.norm, manifest["image_shape"])
    _refuse_batches_of_one(settings, model.statistics, manifest)
    if settings.train.augment:
        Augment(settings.train.augment, manifest["image_shape"])
    sizes = {len(task["classes"]) for task in manifest["tasks"]}
    if settings.net.heads == "shared" and (len(sizes) > 1 or not manifest["shared_labels"]):
        raise SettingsError(
            "net.heads: a shared head needs tasks with the same classes",
            "set net.heads=per-task",
        )
    wanted = {
        "train.weights=best": settings.train.weights == "best",
        "train.schedule=plateau": settings.train.schedule == "plateau",
        "evaluate.validation=true": settings.evaluate.validation,
    }
    needing = " and ".join(name for name, is_asked in wanted.items() if is_asked)
    if needing and any(task["splits"]["valid"]["count"] == 0 for task in manifest["tasks"]):
        raise SettingsError(
            f"data.valid_fraction: {needing} cannot do without validation images in every task",
            "raise data.valid_fraction, add images (a class keeps one), or leave that setting out",
        )
    model.add_task(1, max(sizes, default=1))
    refuse_nondeterministic(model, manifest["image_shape"], settings.compute, device)
    kind: type[Method] = registry.load_class(METHODS, settings.method.name, setting="method.name")
    method = kind(
        model, settings.options, settings.train, compute=settings.compute, seed=settings.seed
    )
    method.check_options()
    return method


def _refuse_batches_of_one(
    settings: Settings, statistics: str, manifest: Mapping[str, Any]
) -> None:
    """Refuse batches of one where a batch is normalised by itself: nothing would be left of it."""
    if statistics == "none":
        return
    what = "a batch of one image, normalised by itself, says nothing about it"
    sizes = {"train.batch_size": settings.train.batch_size}
    if statistics == "batch":
        sizes["evaluate.batch_size"] = settings.evaluate.batch_size
    for key, size in sizes.items():
        if size == 1:
            raise SettingsError(f"{key}: {what}", f"set {key} to 2 or more")
    for task in manifest["tasks"] if statistics == "batch" else ():
        for split, images in task["splits"].items():
            if images["count"] == 1:
                raise SettingsError(
                    f"norm.statistics=batch: task {task['number']} has a single {split} image, and"
                    f" {what}",
                    "set norm.statistics=task, or add images",
                )


def _model_bytes(manifest: Mapping[str, Any], method: Method) -> int:
    model = method.model
    backbone = sum(p.numel() for p in model.backbone.parameters())
    head = max(len(task["classes"]) for task in manifest["tasks"]) * model.num_features
    num_heads = 1 if model.shared_head else len(manifest["tasks"])
    return 4 * (backbone + head * num_heads)
