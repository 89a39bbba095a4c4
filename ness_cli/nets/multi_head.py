"""A backbone with one output layer per task, or one for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ness_cli.nets.norm import SHARED, TaskNorm


class MultiHead(nn.Module):
    """Backbone and heads; a forward pass computes the head of the selected task only.

    State dict keys: ``backbone.<...>`` and ``heads.<task or shared>.weight``,
    ``[num_classes, num_features]``.

    Args:
        backbone: Module that maps normalised images ``[n, c, h, w]`` to ``[n, num_features]``.
        num_features: Width of the backbone's output.
        shared_head: One head for all tasks.
        adapt: Patterns of the names of the layers that tasks after the first train in.
        augments_bias: Whether biases train on after the first task, as part of the matrices.
        image_shape: ``(c, h, w)`` of the images that the backbone takes.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_features: int,
        *,
        shared_head: bool,
        adapt: Sequence[str] = ("*",),
        augments_bias: bool = False,
        image_shape: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)
        self.adapt = tuple(adapt)
        self.augments_bias = augments_bias
        self.backbone = backbone
        self.num_features = num_features
        self.shared_head = shared_head
        self.heads = nn.ModuleDict()
        self.task = 1

    @property
    def num_tasks(self) -> int:
        """Number of tasks the model has heads for, with a shared head 1 at most."""
        return len(self.heads)

    def head_key(self, task_number: int) -> str:
        """Return the key of the head of a task."""
        return SHARED if self.shared_head else str(task_number)

    def head(self, task_number: int) -> nn.Linear:
        """Return the head of a task, bias-free as in the published networks."""
        module = self.heads[self.head_key(task_number)]
        assert isinstance(module, nn.Linear)
        return module

    def norms(self) -> list[TaskNorm]:
        """Return the normalisation layers, in module order."""
        # Not of the heads, which are as many as tasks.
        return [module for module in self.backbone.modules() if isinstance(module, TaskNorm)]

    @property
    def statistics(self) -> str:
        """What normalises when nothing trains: ``task`` or ``batch``; ``none`` without norms."""
        norms = self.norms()
        return norms[0].statistics if norms else "none"

    def smallest_batch(self, size: int) -> int:
        """Return how many images a batch of an evaluation needs, where ``size`` are asked for.

        With batch statistics a small remainder would be normalised by next to nothing. A task in
        training has no statistics yet, whatever they are to be: its batches have no single images.
        """
        if self.statistics == "batch":
            return max(2, size // 8)
        return 1 if all(norm.has_statistics(self.task) for norm in self.norms()) else 2

    def add_task(self, task_number: int, num_classes: int) -> None:
        """Make the head and normalisation state of a task; draws from torch's default RNG.

        The new modules are created on the CPU, so that every device starts from the same numbers.
        """
        self.add_tasks({task_number: num_classes})

    def add_tasks(self, num_classes: Mapping[int, int]) -> None:
        """Make heads and normalisation states as ``add_task`` does, of tasks with their classes."""
        device, norms = next(self.backbone.parameters()).device, self.norms()
        for task_number, count in num_classes.items():
            key = self.head_key(task_number)
            if key not in self.heads:
                head = nn.Linear(self.num_features, count, bias=False)
                # There may be hundreds, and asking is not free.
                self.heads[key] = head if device.type == "cpu" else head.to(device)
            for norm in norms:
                norm.add_task(task_number, device)

    def own_parameters(self, task_number: int | None = None) -> set[nn.Parameter]:
        """Return the parameters that belong to one task alone; those of every task for ``None``.

        They are its head, unless there is one for all, and its scales and shifts, if it has any.
        """
        keys = None if task_number is None else {str(task_number)}
        found: set[nn.Parameter] = set()
        for key, head in self.heads.items():
            if key != SHARED and (keys is None or key in keys):
                found.update(head.parameters())
        for norm in self.norms():
            for values in (norm.scale, norm.shift):
                found.update(
                    values[key] for key in values if key != SHARED and (keys is None or key in keys)
                )
        return found

    def shared_affine(self) -> set[nn.Parameter]:
        """Return the scales and shifts that all tasks share."""
        return {
            values[SHARED]
            for norm in self.norms()
            for values in (norm.scale, norm.shift)
            if SHARED in values
        }

    def select(self, task_number: int) -> None:
        """Make this the task whose head and normalisation state are used."""
        if task_number == self.task:  # at every step of a task
            return
        self.task = task_number
        for norm in self.norms():
            norm.task = task_number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of the selected task, ``[n, num_classes]``."""
        logits: torch.Tensor = self.head(self.task)(self.backbone(x))
        return logits

    @property
    def features_need_task(self) -> bool:
        """Whether the backbone, when evaluated, computes differently for every task."""
        return any(n.statistics == "task" or n.affine == "per-task" for n in self.norms())

    def logits_of(self, task_numbers: Iterable[int], x: torch.Tensor) -> list[torch.Tensor]:
        """Return the logits ``[n, num_classes]`` of several tasks on the same images.

        The backbone computes once if it does the same for all of them. The selected task stays.
        """
        if not self.features_need_task:
            features = self.backbone(x)
            return [self.head(task_number)(features) for task_number in task_numbers]
        selected, found = self.task, []
        for task_number in task_numbers:
            self.select(task_number)
            found.append(self(x))
        self.select(selected)
        return found

    @contextmanager
    def record_statistics(self, *, exact: bool = True) -> Iterator[None]:
        """Record the selected task's normalisation statistics from the batches passed within."""
        with ExitStack() as stack:
            for norm in self.norms():
                stack.enter_context(norm.record(exact=exact))
            yield

    @contextmanager
    def passing_statistics(self, batches: Iterable[torch.Tensor]) -> Iterator[None]:
        """Normalise the selected task, within, by the statistics of some batches.

        Args:
            batches: Normalised images ``[n, c, h, w]``.
        """
        norms, task_number = self.norms(), self.task
        before = [norm.statistics_of(task_number) for norm in norms]
        try:
            with self.record_statistics(exact=False):
                for x in batches:
                    self(x)
            yield
        finally:
            for norm, statistics in zip(norms, before, strict=True):
                norm.set_statistics(task_number, statistics)


def shape_tasks(
    model: MultiHead, tensors: Mapping[str, torch.Tensor], num_classes: Sequence[int]
) -> None:
    """Give a new model the heads and statistics that a saved one had, but not its values.

    Args:
        model: A model without tasks.
        tensors: State dict of the saved model, which may know more tasks.
        num_classes: Classes of each task, in order.
    """
    modules = model.backbone.named_modules(prefix="backbone")
    norms = {name: module for name, module in modules if isinstance(module, TaskNorm)}
    model.add_tasks(dict(enumerate(num_classes, start=1)))
    for task_number in range(1, len(num_classes) + 1):
        for name, norm in norms.items():
            if f"{name}.mean.{task_number}" in tensors:
                norm.allocate_statistics(task_number)


def load_tasks(
    model: MultiHead, tensors: Mapping[str, torch.Tensor], num_classes: Sequence[int]
) -> None:
    """Give a new model the heads and statistics that a saved one had, and its values.

    Args:
        model: A model without tasks.
        tensors: State dict of the saved model.
        num_classes: Classes of each task the saved model knew, in order.

    Raises:
        RuntimeError: If the names or shapes do not match the model.
    """
    shape_tasks(model, tensors, num_classes)
    own = model.state_dict()
    if wrong := sorted(own.keys() ^ tensors.keys()):
        raise RuntimeError(f"names that only the model or only the file has: {', '.join(wrong)}")
    # Not load_state_dict, which for every module goes through the names of all: as many as tasks.
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            shapes = f"{list(tensors[name].shape)}, not {list(tensor.shape)}"
            raise RuntimeError(f"{name}: its shape is {shapes}")
        tensor.copy_(tensors[name])
