"""Tiny trained models for the tests of formats, and a check without this package."""

from __future__ import annotations

import torch
from factory import add_task, make_images, make_method, make_settings, make_task, shape_of
from forked import Processes

from ness_cli.data.task_stream import TaskInfo
from ness_cli.export.subject import Subject

CLASSES = ("one", "two", "three")


# Where torchvision cannot load its compiled part its import needs help: only that comes from here.
_HIDDEN = """
import sys
from ness_cli.vision_libraries import import_torchvision
import_torchvision()
for name in [name for name in sys.modules if name.partition(".")[0] == "ness_cli"]:
    sys.modules[name] = None
"""


def make_subject(task: int = 2, *, num_tasks: int = 2, shape=None, **sections) -> Subject:
    """Return a model that has seen ``num_tasks`` tasks; weights of later ones are moved at random.

    Nothing is trained: what a format holds does not depend on how it was learned.
    """
    settings = make_settings(**sections)
    shape = shape or shape_of(settings)
    method = make_method(settings, shape)
    first = make_method(settings, shape)
    for t in range(1, num_tasks + 1):
        add_task(method, t)
        if t == 1:
            add_task(first, 1)
        _move(method.model, t)
        record(method.model, make_task(t, shape=shape).train)
        if t == 1:
            first.model.load_state_dict(_with_statistics(first.model, method.model))
    return Subject(
        view=method.task_view,
        net=settings.net,
        method=settings.method.name,
        task=task,
        tasks=[
            TaskInfo(t, f"task {t}", CLASSES, (0.5,) * shape[0], (0.25,) * shape[0])
            for t in range(1, num_tasks + 1)
        ],
        images={task: make_images(task, 6, shape, seed=3).images},
        first_view=first.task_view,
    )


def _with_statistics(model, source):
    for norm in model.norms():
        norm.allocate_statistics(1)
    return source.state_dict()


@torch.no_grad()
def _move(model, task_number):
    for module in model.backbone.modules():
        if task_number > 1 and isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            weight = module.weight
            generator = torch.Generator().manual_seed(task_number)
            weight.add_(torch.randn(weight.shape, generator=generator) * weight.std() / 4)


def record(model, images):
    model.train()
    with model.record_statistics(), torch.no_grad():
        model(images.batch(slice(None)).x)
    model.eval()


def run_without_ness(processes: Processes, program: str, *arguments) -> None:
    """Run a Python program in a process that cannot import this package."""
    (ended,) = processes.python(_HIDDEN + program, *arguments)
    assert ended.code == 0, ended.err
