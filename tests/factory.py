"""Tiny tasks and models for the tests of methods and engine."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ness_cli import registry
from ness_cli.console import Progress
from ness_cli.data.batches import Images
from ness_cli.data.task_stream import Split
from ness_cli.engine.stepper import Stepper
from ness_cli.methods.base import Method
from ness_cli.methods.step import StepProgress, TrainingForward, TrainStep
from ness_cli.methods.task import Task
from ness_cli.nets.build import build_model
from ness_cli.settings.model import Settings
from ness_cli.settings.resolve import build

SHAPE = (1, 4, 4)
NUM_CLASSES = 3
VIT_SHAPE = (3, 8, 8)
VIT = {
    "name": "torchvision",
    "model": "VisionTransformer",
    "arguments": {
        "patch_size": 4,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 16,
        "mlp_dim": 16,
    },
    "prompts": 4,
}
"""A vision transformer for images of ``VIT_SHAPE``."""
NETS = {"nsp2": VIT}
"""Networks of methods that do not work with an MLP."""


class Notes(Progress):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


class GroupedBackbone(nn.Module):
    """A backbone for images of ``SHAPE`` whose second convolution has groups."""

    num_features = 10

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(4, 6, 2, groups=2, bias=False)
        self.fc = nn.Linear(54, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return torch.relu(self.fc(x.flatten(1)))


def make_settings(**sections) -> Settings:
    raw = {
        "net": {"name": "mlp", "hidden": [12, 10]},
        "train": {"epochs": 2, "batch_size": 8, "lr": 0.05},
    }
    for key, value in sections.items():
        if not isinstance(value, dict) or (key == "net" and "name" in value):
            raw[key] = value
        else:
            raw[key] = {**raw.get(key, {}), **value}
    return build(raw)


def shape_of(settings: Settings) -> tuple[int, int, int]:
    """Return the shape of images that a network takes."""
    return VIT_SHAPE if settings.net.name == VIT["name"] else SHAPE


def make_images(task: int, n: int = 24, shape=SHAPE, *, seed: int = 0, device="cpu") -> Images:
    generator = torch.Generator().manual_seed(1000 * seed + task)
    images = torch.randint(0, 256, (n, *shape), generator=generator, dtype=torch.uint8)
    # A few pixels are always dark, as in real digits: inputs are rank deficient.
    images[..., 0] = 0
    labels = torch.arange(n) % NUM_CLASSES
    c = shape[0]
    return Images(
        Split(images, labels),
        task=task,
        mean=[0.5] * c,
        std=[0.25] * c,
        device=torch.device(device),
    )


def make_task(task_number: int, *, n: int = 24, past: bool = False, shape=SHAPE) -> Task:
    return Task(
        number=task_number,
        num_classes=NUM_CLASSES,
        train=make_images(task_number, n, shape),
        valid=make_images(task_number, 6, shape, seed=1),
        past=tuple(make_images(t, n, shape) for t in range(1, task_number)) if past else (),
    )


def make_method(settings: Settings, shape=SHAPE) -> Method:
    torch.manual_seed(settings.seed)
    model = build_model(settings.net, settings.norm, shape)
    kind = registry.load_class("ness_cli.methods", settings.method.name, setting="method.name")
    return kind(
        model,
        settings.options,
        settings.train,
        compute=settings.compute,
        seed=settings.seed,
        batch_size=16,
    )


def dense_update(basis, update, layer: str) -> torch.Tensor:
    """What an update adds to a layer's matrix, ``[out, d]`` float64, as docs/files.md has it."""
    v = update[f"{layer}.V"].double()
    if f"{layer}.U" in basis:
        u = basis[f"{layer}.U"].double()
        s = basis[f"{layer}.scale"].double() if f"{layer}.scale" in basis else 1
        return ((u * s) @ v).T
    q = basis[f"{layer}.Q"].double()
    s = basis[f"{layer}.scale"].double() if f"{layer}.scale" in basis else torch.ones(0)
    return (v - q @ ((1 - s)[:, None] * (q.T @ v))).T


def add_task(method: Method, task_number: int) -> None:
    torch.manual_seed(1000 + task_number)
    method.model.add_task(task_number, NUM_CLASSES)
    method.model.select(task_number)


def make_steps(method: Method, task: Task, num_steps: int, *, size: int = 8) -> Iterator[Stepper]:
    """Make steps of a task that has begun, as the engine does, and stop after each of them."""
    stepper = Stepper(method, task)
    method.model.train()
    for step in range(num_steps):
        positions = torch.arange(step, step + size)
        stepper.step(task.train, positions, StepProgress(0, step, num_steps, 1))
        yield stepper


def learn(method: Method, task: Task, steps: int = 4, *, size: int = 8) -> Task:
    """Train a task that has its head, consolidate it, and return it."""
    method.begin_task(task)
    for _ in make_steps(method, task, steps, size=size):
        pass
    method.end_task(task)
    method.consolidate(task, lambda _: None)
    return task


def begin_after(method: Method, tasks: int, *, n: int = 24) -> Task:
    """Learn so many tasks, begin one more, and return that."""
    for number in range(1, tasks + 1):
        add_task(method, number)
        learn(method, make_task(number, n=n), min(4, n), size=min(8, n))
    return _begin(method, make_task(tasks + 1, n=n))


def begin_with_stored_images(method: Method, task_number: int) -> Task:
    """Store images of all tasks before one, untrained, begin it, and return it."""
    for earlier in range(1, task_number):
        add_task(method, earlier)
        method.consolidate(make_task(earlier), lambda _: None)
    task = _begin(method, make_task(task_number))
    method.model.train()
    return task


def _begin(method: Method, task: Task) -> Task:
    add_task(method, task.number)
    method.begin_task(task)
    return task


def make_train_step(method: Method, images: Images, where: slice = slice(None)) -> TrainStep:
    """Return a step on some images, for a hook that is called alone."""
    positions = torch.arange(len(images))[where]
    forward = TrainingForward(method.model, method.compute)
    batch = images.batch(positions)
    progress = StepProgress(0, 0, 1, 1)
    return TrainStep(forward, batch, progress, images, positions, lambda own, at: own.batch(at))
