"""A run's model, ready to be used: by ``predict``, by exports, and by programs of other people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ness_cli import numerics
from ness_cli.data.batches import cut
from ness_cli.data.image_input import ImageInput, ImageLike
from ness_cli.errors import InputError
from ness_cli.extensions import read_extensions
from ness_cli.methods.base import Method
from ness_cli.nets.multi_head import MultiHead
from ness_cli.run_dir import RunDir
from ness_cli.run_state import command
from ness_cli.stages.context import RunContext, require_done
from ness_cli.stages.models import load_model
from ness_cli.stages.run_files import RunFiles
from ness_cli.workplace import Workplace


def trained_method(context: RunContext, task_number: int, files: RunFiles) -> Method:
    """Return the method after a task, with all that the views of its tasks need.

    Args:
        context: The run.
        task_number: The task after which.
        files: Reads what it is made from.

    Raises:
        InputError: If the task is not trained, or not consolidated where its views need that.
        DamagedError: If a file does not read back.
    """
    state = context.state()
    require_done(state, task_number, "train")
    method = context.method(load_model(context, task_number, files))
    if needs_building(method):
        require_done(state, task_number, "build")
    files.load_memory(method, "evaluate", task_number)
    return method


def needs_building(method: Method) -> bool:
    """Return whether the views of a method's tasks read files that consolidation makes."""
    needed = {*method.reads("evaluate"), *method.reads_of_every_task("evaluate")}
    return any(file.name in needed and file.made_by == "build" for file in method.files)


@dataclass(frozen=True)
class Candidate:
    """A class that an image may belong to.

    Attributes:
        label: Its name.
        task: Number of the task that learned it.
        confidence: Its softmax probability among the classes that compete, a fraction.
    """

    label: str
    task: int
    confidence: float


@dataclass(frozen=True)
class Prediction:
    """What an image was recognised as.

    Attributes:
        top: The likeliest classes, in order of their confidence.
    """

    top: tuple[Candidate, ...]

    @property
    def label(self) -> str:
        """Name of the likeliest class."""
        return self.top[0].label

    @property
    def task(self) -> int:
        """Number of the task that it belongs to."""
        return self.top[0].task

    @property
    def confidence(self) -> float:
        """Its softmax probability, a fraction."""
        return self.top[0].confidence

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        best = {"label": self.label, "task": self.task, "confidence": self.confidence}
        return {**best, "top": [asdict(each) for each in self.top]}


class TrainedModel(nn.Module):
    """The model after a task, in evaluation mode, that takes images of any size and kind.

    A forward pass takes uint8 images as ``preprocess`` returns them, normalises them, and gives
    logits without gradients; whoever needs gradients computes inside ``view``.

    Args:
        method: The method after the task, with all that views need.
        images: How images come to the form of the run.
        task_numbers: The tasks whose heads answer, ascending.
        after: The task after which the model is.

    Attributes:
        classes: Names of the classes, one for every logit.
        class_tasks: Numbers of the tasks that they belong to, likewise.
    """

    def __init__(
        self, method: Method, images: ImageInput, task_numbers: Sequence[int], after: int
    ) -> None:
        super().__init__()
        self.network = method.model
        self.method = method
        self.images = images
        self.task_numbers = tuple(task_numbers)
        self.after = after
        pairs = [(name, t) for t in self.task_numbers for name in images.tasks[t - 1].classes]
        self.classes = tuple(name for name, _ in pairs)
        self.class_tasks = tuple(task_number for _, task_number in pairs)
        for task_number in self.task_numbers:
            self.network.head(task_number)  # among the parameters before anybody asks for them
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    @contextmanager
    def view(self, task_number: int) -> Iterator[MultiHead]:
        """Give the network as a task knows it, for normalised images of that task."""
        with self.method.task_view(task_number) as network:
            yield network

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of all classes, ``[n, num_classes]`` float32.

        Args:
            images: uint8 ``[n, c, h, w]``, on any device.
        """
        images = images.to(self.device)
        found = []
        for task_number in self.task_numbers:
            with self.view(task_number) as network:
                found.append(network(self.images.normalised(images, task_number)))
        return torch.cat(found, dim=1)

    def preprocess(self, image: ImageLike) -> torch.Tensor:
        """Return one image as the forward pass takes it, uint8 ``[c, h, w]``.

        Args:
            image: A path, an image of Pillow, a uint8 array ``[h, w]`` or ``[h, w, c]``, or a uint8
                tensor ``[c, h, w]``.

        Raises:
            UnreadableError: If it is a file that cannot be read as an image.
            InputError: If its pixels are no 8-bit values, or it is too large to be padded.
        """
        return self.images.pixels(image)

    def predict(
        self, images: Sequence[ImageLike] | torch.Tensor, *, top: int = 5, batch_size: int = 256
    ) -> list[Prediction]:
        """Return what each of some images is recognised as.

        Args:
            images: Images as ``preprocess`` takes them, or uint8 ``[n, c, h, w]``.
            top: Candidates for each, at most.
            batch_size: Images per forward pass.

        Raises:
            UnreadableError: If a file cannot be read as an image.
            InputError: If pixels are no 8-bit values, or an image is too large to be padded.
        """
        found: list[Prediction] = []
        for where in cut(len(images), batch_size, self.network.smallest_batch(batch_size)):
            pixels = torch.stack([self.preprocess(image) for image in images[where]])
            found += self.predictions(self(pixels), top)
        return found

    def predictions(self, logits: torch.Tensor, top: int) -> list[Prediction]:
        """Return the likeliest classes by logits ``[n, num_classes]``, ``top`` for each at most."""
        # Stable, as argmax is where accuracies are counted: of equal logits the first one wins.
        best = logits.double().cpu().softmax(dim=1).sort(dim=1, descending=True, stable=True)
        pairs = zip(best.values[:, :top].tolist(), best.indices[:, :top].tolist(), strict=True)
        return [
            Prediction(
                tuple(
                    Candidate(self.classes[k], self.class_tasks[k], p)
                    for p, k in zip(values, positions, strict=True)
                )
            )
            for values, positions in pairs
        ]


def load_trained(
    context: RunContext, task_number: int | None = None, *, after: int | None = None
) -> TrainedModel:
    """Return the model of an opened run.

    Args:
        context: The run.
        task_number: The task whose head answers; those of all tasks compete when ``None``.
        after: The task after which the model is; the last one that is trained when ``None``.

    Raises:
        InputError: If there is no such task, it is not trained, or files are missing.
        DamagedError: If a file does not read back.
    """
    after = _newest(context) if after is None else after
    for name, value, last in (
        ("after", after, context.stream.num_tasks),
        ("task", after if task_number is None else task_number, after),
    ):
        if not 1 <= value <= last:
            raise InputError(f"{name}: {value} is not between 1 and {last}", "choose one of them")
    method = trained_method(context, after, RunFiles(context))
    images = _image_input(context)
    answering = range(1, after + 1) if task_number is None else [task_number]
    return TrainedModel(method, images, answering, after)


def _image_input(context: RunContext) -> ImageInput:
    """Return how images come to what the network knows; appended tasks may change their pixels."""
    stream, first = context.stream, 1
    parts = []
    starts = [each.first_task for each in read_extensions(context.run_record)]
    for end in (*starts, stream.num_tasks + 1):
        tasks = [stream.info(t) for t in range(first, end)]
        datasets = context.settings_of(first).stream.datasets()
        parts.append(ImageInput.of_stream(datasets, stream.image_shape, tasks))
        first = end
    return ImageInput.joined(parts)


def _newest(context: RunContext) -> int:
    """Return the last task that is trained; what is stale after it is noted."""
    state = context.state()
    trained = [t for t in range(1, state.num_tasks + 1) if state.of(t, "train").is_done]
    if not trained:
        path, why = state.run.path, state.of(1, "train").why
        what = f"the training of task 1 is stale: {why}" if why else "no task is trained yet"
        raise InputError(f"{path}: {what}", f"run: {command(path, 'train')}")
    newest = trained[-1]
    if newest < state.num_tasks and (why := state.of(newest + 1, "train").why):
        note = f"task {newest + 1} is stale ({why}): the model is that after task {newest}"
        context.workplace.progress.note(note)
    return newest


def load(
    run: str | Path,
    task: int | None = None,
    device: str | None = None,
    *,
    after: int | None = None,
) -> TrainedModel:
    """Return the model of a run; the public face is ``ness_cli.load``, which explains it."""
    # No prepared image is opened, wherever the cache is.
    workplace = Workplace(cache=Path(run), device=device or "auto")
    devices = range(torch.cuda.device_count())  # named, or torch warns of more than one
    with numerics.left_as_they_were(), torch.random.fork_rng(devices):
        return load_trained(RunContext(RunDir(Path(run)), workplace), task, after=after)
