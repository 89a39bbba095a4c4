"""Write a trained model for programs that know nothing of this one, and check what was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ness_cli.data.formats.image import has_image_suffix
from ness_cli.errors import InputError, NumericalError, SettingsError
from ness_cli.export.formats.base import ExportFormat
from ness_cli.export.subject import Subject
from ness_cli.export.usage import usage
from ness_cli.extensions import read_extensions
from ness_cli.files import whole_folder, write_bytes
from ness_cli.nets.multi_head import MultiHead
from ness_cli.results.model_card import Exported, model_card
from ness_cli.results.read_run import read_run
from ness_cli.settings.identity import completed
from ness_cli.stages.context import RunContext
from ness_cli.stages.trained_model import TrainedModel, load_trained

NUM_IMAGES = 32
"""Images of every exported task that logits are compared on, at most."""
TOLERANCE = 1e-5
"""How far logits may differ, as a fraction of the largest of the run's own, or of 1."""


@dataclass(frozen=True)
class Request:
    """What to export.

    Attributes:
        form: The format.
        out: The folder to write.
        task: The task whose head answers; the last one that is trained when ``None``.
        images: An image or a folder of images to compare logits on; prepared test images of the
            task when ``None``.
    """

    form: ExportFormat
    out: Path
    task: int | None = None
    images: Path | None = None


def export(context: RunContext, request: Request) -> Exported:
    """Write a model into a folder, which appears when its logits have proven to be the run's own.

    Args:
        context: The run, on the CPU.
        request: What to export.

    Returns:
        What was written.

    Raises:
        SettingsError: If the format cannot hold the model, or the folder is there.
        InputError: If the task is not trained, or there are no images to compare on.
        NumericalError: If what was written computes something else.
        SystemRefusedError: If a library is missing.
    """
    form = request.form
    form.require_libraries()
    _refuse_what_does_not_go(request)
    # An adapter of task t is what was learned up to it; all others are the newest model there is.
    after = request.task if form.is_of_its_task else None
    trained = load_trained(context, request.task, after=after)
    subject = _subject(context, trained, request)
    with whole_folder(request.out) as folder:
        form.write(subject, folder)
        difference = _largest_difference(form, subject, folder)
        exported = _exported(context, trained, subject, request, difference)
        write_bytes(folder / "README.md", model_card(exported).encode())
    return exported


def _refuse_what_does_not_go(request: Request) -> None:
    form, out = request.form, request.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(f"{out} is there already", "name another folder, or remove it")
    if request.task is not None and form.holds_all_tasks:
        raise SettingsError(f"--task: --to {form.name} holds all tasks", "leave it out")


def _exported(
    context: RunContext,
    trained: TrainedModel,
    subject: Subject,
    request: Request,
    difference: float,
) -> Exported:
    """Return what the card tells."""
    form, tasks = request.form, [subject.tasks[t - 1] for t in subject.images]
    return Exported(
        run=read_run(context.run.path),
        format=form.name,
        out=request.out,
        task=None if form.holds_all_tasks else subject.task,
        after=trained.after,
        classes={info.number: info.classes for info in tasks},
        image_shape=trained.images.form.shape,
        constants={info.number: (info.mean, info.std) for info in tasks},
        added=_added(context, trained.after),
        usage=usage(form, subject, trained.images.form),
        difference=difference,
        num_images=sum(map(len, subject.images.values())),
    )


def _added(context: RunContext, after: int) -> dict[str, dict[str, Any]]:
    """Return what differs in the settings of appended tasks up to one, by which these are."""
    identity = completed(context.run_record["identity"])
    return {
        each.which: {
            key: value
            for key, value in context.settings_of(each.first_task).identity().items()
            if value != identity.get(key)
        }
        for each in read_extensions(context.run_record)
        if each.first_task <= after
    }


def _subject(context: RunContext, trained: TrainedModel, request: Request) -> Subject:
    task_number = request.task or trained.after
    tasks = range(1, trained.after + 1) if request.form.holds_all_tasks else [task_number]

    @contextmanager
    def first_view(number: int) -> Iterator[MultiHead]:
        with load_trained(context, number, after=1).view(number) as model:
            yield model

    return Subject(
        view=trained.view,
        net=context.settings.net,
        method=context.settings.method.name,
        task=task_number,
        tasks=[context.stream.info(t) for t in range(1, trained.after + 1)],
        images={t: _images(context, trained, request.images, t) for t in tasks},
        first_view=first_view,
    )


def _images(
    context: RunContext, trained: TrainedModel, where: Path | None, task_number: int
) -> torch.Tensor:
    """Return images to compare logits on, uint8 ``[n, c, h, w]``."""
    if where is not None:
        return _images_of_files(trained, where, task_number)
    try:
        return context.stream.split(task_number, "test").images[:NUM_IMAGES]
    except InputError as error:
        raise InputError(
            f"no image to compare logits on: {error.what}",
            "name some of the task's images with --images PATH",
        ) from error


def _images_of_files(trained: TrainedModel, where: Path, task_number: int) -> torch.Tensor:
    found = [where] if where.is_file() else sorted(where.rglob("*"))
    files = [path for path in found if path.is_file() and has_image_suffix(path.name)]
    if not files:
        raise InputError(f"--images: there is no image in {where}", "name a folder of images")
    pixels = torch.stack([trained.preprocess(path) for path in files[:NUM_IMAGES]])
    change = trained.images.changes[task_number - 1]
    return pixels if change is None else change(pixels)


def _largest_difference(form: ExportFormat, subject: Subject, folder: Path) -> float:
    """Return the largest difference of a logit.

    Raises:
        NumericalError: If it is larger than rounding explains, or there is none to be had.
    """
    worst = 0.0
    for task_number in subject.images:
        ours = subject.logits(task_number).double()
        theirs = form.logits(subject, folder, task_number).double()
        difference = float((ours - theirs).abs().max())
        allowed = TOLERANCE * max(1.0, float(ours.abs().max()))
        if not difference <= allowed:
            raise NumericalError(
                f"--to {form.name}: logits of task {task_number} differ from the run's own by"
                f" {difference:.2g}, more than {allowed:.2g}; nothing was written",
                "report it with the run's settings, and try another format",
            )
        worst = max(worst, difference)
    return worst
