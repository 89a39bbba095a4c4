"""A network that knows all tasks, and is told which one every image belongs to."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from ness_cli.errors import SettingsError
from ness_cli.export.subject import Subject
from ness_cli.nets.backbones.base_converted import put
from ness_cli.nets.dropout import Dropout
from ness_cli.nets.multi_head import MultiHead
from ness_cli.nets.norm import TaskNorm


class Selection:
    """Which task every image of a batch belongs to, for all norms of a network at once."""

    def __init__(self) -> None:
        self.positions = torch.zeros(0, dtype=torch.int64)


class MergedNorm(nn.Module):
    """Batch norm with the statistics, scale and shift of every image's own task.

    Args:
        norm: The norm of a network; ``[num_tasks, num_features]`` of each is kept.
        task_numbers: The tasks.
        selection: Tells the task of every image, as a position among these.
    """

    mean: torch.Tensor
    factor: torch.Tensor
    shift: torch.Tensor

    def __init__(self, norm: TaskNorm, task_numbers: Sequence[int], selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        means, factors, shifts = [], [], []
        for task_number in task_numbers:
            norm.task = task_number
            statistics = norm.statistics_of(task_number)
            assert statistics is not None
            mean, variance = statistics
            means.append(mean)
            factors.append((variance + norm.eps).rsqrt() * norm.scale[norm.affine_key].detach())
            shifts.append(norm.shift[norm.affine_key].detach())
        for name, values in (("mean", means), ("factor", factors), ("shift", shifts)):
            self.register_buffer(name, torch.stack(values))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x``, ``[n, num_features, ...]``."""
        shape = (-1, self.mean.shape[1], *[1] * (x.dim() - 2))
        mean, factor, shift = (
            values[self.selection.positions].view(shape)
            for values in (self.mean, self.factor, self.shift)
        )
        return (x - mean) * factor + shift


class MergedNetwork(nn.Module):
    """Probabilities and logits of uint8 images, each of a task of its own.

    Args:
        backbone: Features of normalised images; its norms are ``MergedNorm``.
        heads: The head of every task, ``[num_classes, num_features]``.
        constants: Mean and standard deviation of every task's pixels in 0..1, ``[tasks, 2, c]``.
        selection: Tells norms the task of every image.
    """

    weight: torch.Tensor
    missing: torch.Tensor
    constants: torch.Tensor

    def __init__(
        self,
        backbone: nn.Module,
        heads: Sequence[torch.Tensor],
        constants: torch.Tensor,
        selection: Selection,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.selection = selection
        most = max(map(len, heads))
        self.register_buffer("weight", nn.utils.rnn.pad_sequence(list(heads), batch_first=True))
        counts = torch.tensor([len(head) for head in heads])
        # Added to logits: outputs that a task has no class for are never chosen.
        missing = torch.zeros(len(heads), most)
        missing[torch.arange(most) >= counts[:, None]] = -torch.inf
        self.register_buffer("missing", missing)
        self.register_buffer("constants", 255 * constants)

    def forward(
        self, images: torch.Tensor, tasks: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities and logits, ``[n, most classes]``.

        Args:
            images: uint8 ``[n, c, h, w]``.
            tasks: The task of each, from 1, int64 ``[n]``.
        """
        positions = tasks - 1
        mean, std = self.constants[positions][:, :, :, None, None].unbind(1)
        self.selection.positions = positions
        features = self.backbone((images.float() - mean) / std)
        logits = (self.weight[positions] @ features[:, :, None]).squeeze(2)
        logits = logits + self.missing[positions]
        return logits.softmax(dim=1), logits


@torch.no_grad()
def merged_network(subject: Subject, form: str) -> MergedNetwork:
    """Return one network for all tasks.

    Args:
        subject: What is exported.
        form: Name of the format, for messages.

    Raises:
        SettingsError: If tasks compute with weights of their own, or an image is normalised by
            others of its batch.
    """
    task_numbers = [info.number for info in subject.tasks]
    with subject.usable(form) as model:
        backbone = copy.deepcopy(model.backbone)
        heads = [model.head(t).weight.detach().clone() for t in task_numbers]
    for t in task_numbers:
        with subject.view(t) as model:
            _refuse_own_weights(backbone, model, subject.method, form)
    selection = Selection()
    for name, module in list(backbone.named_modules()):
        if isinstance(module, TaskNorm):
            put(backbone, name, MergedNorm(module, task_numbers, selection))
        elif isinstance(module, Dropout):
            put(backbone, name, nn.Dropout(module.p))
    constants = torch.tensor([[info.mean, info.std] for info in subject.tasks])
    network = MergedNetwork(backbone, heads, constants, selection)
    return network.requires_grad_(False).eval()


def _refuse_own_weights(backbone: nn.Module, model: MultiHead, method: str, form: str) -> None:
    for name, parameter in model.backbone.named_parameters():
        if not torch.equal(parameter, backbone.get_parameter(name)):
            raise SettingsError(
                f"--to {form}: {method} computes {name} anew for every task, and one network has"
                " one value of it",
                "export every task by itself: --to pt2 --task T",
            )
