"""What a run keeps of the tasks that it has learned, in bytes and numbers, after each of them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from ness_cli.methods.base import Method
from ness_cli.run_state import STEPS
from ness_cli.stages.context import RunContext
from ness_cli.stages.run_files import RunFiles


@dataclass(frozen=True)
class Kept:
    """What a model and its method hold after a task.

    Attributes:
        model_bytes: Network, heads and statistics of normalisation.
        memory_bytes: Besides the model, what a later step reads: the method's files and images.
        image_bytes: Of these, pixels of training images.
        task_numbers: Numbers that serve a single task each, of all tasks so far: heads, scales and
            shifts of normalisation that are not shared, and files declared ``of_task``. Statistics
            of normalisation, which every method has alike, do not count.
        trained_numbers: Parameters that training the task may change, its head among them.
    """

    model_bytes: int
    memory_bytes: int
    image_bytes: int
    task_numbers: int
    trained_numbers: int

    def as_json(self) -> dict[str, int]:
        """Return plain values."""
        return asdict(self)


def kept_after(context: RunContext, method: Method, files: RunFiles, task_number: int) -> Kept:
    """Return what is kept after a task whose files are all written.

    Raises:
        InputError: If a file is missing.
        DamagedError: If a file does not read back.
    """
    of_task = {file.name for file in method.files if file.of_task}
    memory = images = 0
    numbers = method.model.num_own
    for name, tasks in carried(method, task_number).items():
        for tensor in (each for task in tasks for each in files.stored(task, name)):
            memory += tensor.num_bytes
            images += tensor.num_bytes if tensor.dtype == "U8" else 0
            numbers += tensor.num_values if name in of_task else 0
    past = _past_image_bytes(context, task_number)
    state = method.model.state_dict().values()
    model = sum(value.numel() * value.element_size() for value in state)
    trained = sum(parameter.numel() for parameter in method.trained_in(task_number))
    return Kept(model, memory + past, images + past, numbers, trained)


def require_carried(context: RunContext, method: Method, files: RunFiles, task_number: int) -> None:
    """Read the headers that ``kept_after`` will, of all files but those that are still to be made.

    A step does this before it removes its old record: it must not end halfway.

    Raises:
        InputError: If a file is missing.
        DamagedError: If a file does not read back.
    """
    for name, tasks in carried(method, task_number).items():
        for task in tasks:
            if task < task_number or context.made_by(name) == "train":
                files.stored(task, name)


def carried(method: Method, task_number: int) -> dict[str, range]:
    """Return of which tasks the next steps, after a task, read each of the method's files."""
    newest = range(task_number, task_number + 1)
    found = dict.fromkeys((name for step in STEPS for name in method.reads(step)), newest)
    every = (name for step in STEPS for name in method.reads_of_every_task(step))
    return found | dict.fromkeys(every, range(1, task_number + 1))


def _past_image_bytes(context: RunContext, task_number: int) -> int:
    """Return the pixels of training images of earlier tasks that a later step opens."""
    options, stream = context.settings.options, context.stream
    steps = [step for step in STEPS if options.uses_past_data(step)]
    splits = ["train", *["valid"] * ("train" in steps)] if steps else []
    tasks = range(1, task_number + 1)
    count = sum(stream.num_images(task, split) for task in tasks for split in splits)
    return count * math.prod(stream.image_shape)
