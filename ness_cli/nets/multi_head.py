"""A backbone with one output layer per task, or one for all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from ness_cli.nets.heads import Heads
from ness_cli.nets.norm import SHARED, TaskNorm


class MultiHead(nn.Module):
    """Backbone and heads; a forward pass computes the head of the selected task only.

    State dict keys: ``backbone.<...>`` and ``heads.<task or shared>.weight``,
    ``[num_classes, num_features]``. Parameters and modules are those of the backbone and of the
    heads that were asked for by ``head`` or ``own_parameters``.

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
        self.heads = Heads(num_features)
        self.task = 1

    @property
    def num_tasks(self) -> int:
        """Number of tasks the model has heads for, with a shared head 1 at most."""
        return len(self.heads)

    def head_key(self, task_number: int) -> str:
        """Return the key of the head of a task."""
        return SHARED if self.shared_head else str(task_number)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.backbone.parameters()).device

    def head(self, task_number: int) -> nn.Linear:
        """Return the head of a task, bias-free as in the published networks."""
        key = self.head_key(task_number)
        if self.heads.waits(key):
            self.heads.make(key, self.device)
        module = self.heads[key]
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
        key, device = self.head_key(task_number), self.device
        if key not in self.heads:
            self.heads.add(key, num_classes, device)
        for norm in self.norms():
            norm.add_task(task_number, device)

    def own_parameters(self, task_number: int | None = None) -> set[nn.Parameter]:
        """Return the parameters that belong to one task alone; those of every task for ``None``.

        They are its head, unless there is one for all, and its scales and shifts, if it has any. Of
        every task they are those of heads that were asked for.
        """
        found: set[nn.Parameter] = set()
        if task_number is None and not self.shared_head:
            found.update(self.heads.parameters())
        if task_number is not None and str(task_number) in self.heads:
            found.update(self.head(task_number).parameters())
        for norm in self.norms():
            for values in (norm.scale, norm.shift):
                every = values.keys() - {SHARED}
                keys = every if task_number is None else every & {str(task_number)}
                found.update(values[key] for key in keys)
        return found

    @property
    def num_own(self) -> int:
        """How many parameters serve a single task each, of all tasks together."""
        heads = () if self.shared_head else self.heads.weights()
        of_norms = self.own_parameters() - {*self.heads.parameters()}
        return sum(each.numel() for each in (*heads, *of_norms))

    def train_only(self, trained: Collection[nn.Parameter]) -> None:
        """Let some parameters train and no others, nor heads that are asked for from now on."""
        for parameter in self.parameters():
            parameter.grad = None
            parameter.requires_grad_(parameter in trained)
        self.heads.train_when_made = False

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


def add_saved_tasks(
    model: MultiHead, tensors: Mapping[str, torch.Tensor], num_classes: Sequence[int]
) -> None:
    """Give a new model the heads of a saved one, and statistics without their values.

    Args:
        model: A model without tasks.
        tensors: State dict of the saved model, which may know more tasks.
        num_classes: Classes of each task, in order.

    Raises:
        RuntimeError: If a head is not there, or of another shape.
    """
    norms = {
        name: module
        for name, module in model.backbone.named_modules(prefix="backbone")
        if isinstance(module, TaskNorm)
    }
    for task_number, count in enumerate(num_classes, start=1):
        key = model.head_key(task_number)
        if key not in model.heads:
            name = f"heads.{key}.weight"
            if name not in tensors:
                raise RuntimeError(f"{name} is missing")
            _require_shape(name, tensors[name], (count, model.num_features))
            model.heads.put(key, tensors[name])
        for name, norm in norms.items():
            norm.add_task(task_number, model.device)
            if f"{name}.mean.{task_number}" in tensors:
                norm.allocate_statistics(task_number)
    if model.shared_head:
        model.head(1)  # it is a layer like others


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
    add_saved_tasks(model, tensors, num_classes)
    own = model.state_dict()
    if wrong := sorted(own.keys() ^ tensors.keys()):
        raise RuntimeError(f"names that only the model or only the file has: {', '.join(wrong)}")
    # Not load_state_dict, which for every module goes through the names of all: as many as tasks.
    for name, tensor in own.items():
        if tensor is not tensors[name]:  # heads wait with the tensors that were given
            _require_shape(name, tensors[name], tensor.shape)
            tensor.copy_(tensors[name])


def _require_shape(name: str, tensor: torch.Tensor, shape: Sequence[int]) -> None:
    if tensor.shape != shape:
        raise RuntimeError(f"{name}: its shape is {list(tensor.shape)}, not {list(shape)}")
