"""Recognise images from outside with the model of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ness_cli.data.image_files import NamedImage, named_images
from ness_cli.errors import InputError
from ness_cli.memory import short_of_memory
from ness_cli.results.prediction_tables import Confusion
from ness_cli.stages.context import RunContext
from ness_cli.stages.trained_model import Prediction, TrainedModel, load_trained

_STOPPED = "nothing was written"


@dataclass(frozen=True)
class Recognised:
    """An image and what it was recognised as.

    Attributes:
        image: The image.
        prediction: What it may be.
        truth: The class that its folder is named after; ``None`` if that is none of the run.
    """

    image: NamedImage
    prediction: Prediction
    truth: str | None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        known = {} if self.truth is None else {"class": self.truth}
        return {"file": self.image.name, **known, **self.prediction.as_json()}


@dataclass(frozen=True)
class Predictions:
    """What all images were recognised as.

    Attributes:
        model: The model that did.
        images: Those that could be read, in their order.
        unreadable: One line for each that could not.
        confusion: How many rightly, if they lie in folders named after classes of the run.
    """

    model: TrainedModel
    images: tuple[Recognised, ...]
    unreadable: tuple[str, ...]
    confusion: Confusion | None

    @property
    def scenario(self) -> str:
        """``task`` if the classes of one task compete, else ``any-task``."""
        return "task" if len(self.model.task_numbers) == 1 else "any-task"

    @property
    def title(self) -> str:
        """Which classes compete, for people."""
        tasks = self.model.task_numbers
        if len(tasks) == 1:
            return f"Among the {len(self.model.classes)} classes of task {tasks[0]}"
        return f"Any task: among the {len(self.model.classes)} classes of tasks 1 to {tasks[-1]}"

    def document(self) -> dict[str, Any]:
        """Return plain values."""
        model = self.model
        classes = [
            {"label": label, "task": task_number}
            for label, task_number in zip(model.classes, model.class_tasks, strict=True)
        ]
        return {
            "schema": "ness.predict/1",
            "scenario": self.scenario,
            "tasks": list(model.task_numbers),
            "after": model.after,
            "classes": classes,
            "predictions": [each.as_json() for each in self.images],
            "unreadable": list(self.unreadable),
            "by_folder": None if self.confusion is None else self.confusion.document(),
        }


def predict(
    context: RunContext, paths: Sequence[str], task_number: int | None = None, *, top: int = 3
) -> Predictions:
    """Recognise the images that paths name; those that cannot be read are left out.

    Args:
        context: The run.
        paths: Files, folders, archives and patterns.
        task_number: The task whose classes compete; those of all when ``None``.
        top: Candidates for each image, at most.

    Raises:
        InputError: If no image is named, no task is trained, or files of the run are missing.
        DamagedError: If a file of the run does not read back.
        StoppedError: If a stop was requested.
    """
    model = load_trained(context, task_number)
    unreadable: list[str] = []
    with named_images(paths) as images, short_of_memory("lower evaluate.batch_size in another run"):
        if not images:
            raise InputError("no images are named", "name image files, folders or archives")
        names = {name for info in model.images.tasks for name in info.classes}
        found = [
            Recognised(image, prediction, next((f for f in image.folders if f in names), None))
            for image, prediction in _recognised(context, model, images, top, unreadable)
        ]
    return Predictions(model, tuple(found), tuple(unreadable), _confusion(model, found))


def _recognised(
    context: RunContext,
    model: TrainedModel,
    images: Sequence[NamedImage],
    top: int,
    unreadable: list[str],
) -> Iterator[tuple[NamedImage, Prediction]]:
    size = context.settings.evaluate.batch_size
    workplace = context.workplace
    with workplace.progress.track("recognising images", len(images)) as advance:
        for start in range(0, len(images), size):
            read: list[tuple[NamedImage, torch.Tensor]] = []
            for image in images[start : start + size]:
                try:
                    with image.open() as file:
                        read.append((image, model.images.pixels_of_file(file, image.name)))
                except InputError as error:
                    unreadable.append(error.what)
                    workplace.progress.note(f"left out: {error.what}")
                advance(1)
                workplace.stop.check(_STOPPED, "the same command")
            if read:
                logits = model(torch.stack([pixels for _, pixels in read]))
                found = model.predictions(logits, top)
                yield from zip((image for image, _ in read), found, strict=True)


def _confusion(model: TrainedModel, found: Sequence[Recognised]) -> Confusion | None:
    """Count what is right, if any image lies in a folder named after a class of the run."""
    if all(each.truth is None for each in found):
        return None
    pairs, outside = [], []
    for each in found:
        if each.truth in model.classes:
            pairs.append((str(each.truth), each.prediction.label))
        else:
            outside.append(each.truth or next(iter(each.image.folders), "."))
    return Confusion.of(pairs, outside, model.classes)
