"""Batch normalisation that knows about tasks.

A running average mixes the statistics of all tasks, so none is kept. While training, and whenever
the selected task has no stored statistics, a batch is normalised by itself. With
``statistics="task"`` the mean and variance of each task's training data are recorded once, when the
task has been learned, and used for that task ever after: the result then depends neither on how
images are batched nor on which other images are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from ness_cli.numerics import float64_device
from ness_cli.processes import all_sum, current_processes

SHARED = "shared"


class TaskNorm(nn.Module):
    """Batch norm with statistics, and if asked scale and shift, of each task.

    State dict keys: ``scale.<task or shared>``, ``shift.<...>``, ``[num_features]`` float32, and
    ``mean.<task>``, ``variance.<task>``, ``[num_features]`` float32.

    Args:
        num_features: Channels of the input, its dimension 1.
        statistics: ``task`` or ``batch``, see above.
        affine: ``frozen``: one scale and shift for all tasks; ``per-task``: each has its own, which
            starts as a copy of the previous task's.
        eps: Added to the variance.
    """

    def __init__(
        self, num_features: int, *, statistics: str, affine: str, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.statistics = statistics
        self.affine = affine
        self.eps = eps
        self.task = 1
        self.scale = nn.ParameterDict()
        self.shift = nn.ParameterDict()
        self.mean = nn.Module()
        self.variance = nn.Module()
        self._recorder: _Moments | None = None
        self._start = (torch.ones(num_features), torch.zeros(num_features))
        if affine == "frozen":
            self._make_affine(SHARED, self._start)

    @property
    def affine_key(self) -> str:
        """Key of the scale and shift in use."""
        return SHARED if self.affine == "frozen" else str(self.task)

    def add_task(self, task_number: int, device: torch.device | None = None) -> None:
        """Make the scale and shift of a task, on a device or where torch puts them."""
        if self.affine == "per-task":
            before = str(task_number - 1)
            has_before = before in self.scale
            start = (self.scale[before], self.shift[before]) if has_before else self._start
            self._make_affine(str(task_number), start, device)

    def start_from(self, scale: torch.Tensor, shift: torch.Tensor, *, eps: float) -> None:
        """Begin the first task with the scale, shift and eps of a layer that was there before."""
        self._start = (scale, shift)
        self.eps = eps
        if self.affine == "frozen":
            self._make_affine(SHARED, self._start)

    @torch.no_grad()
    def start_task_from(self, task_number: int, other: int) -> None:
        """Give a task the scale and shift of another one, if each has its own."""
        if self.affine == "per-task":
            for values in (self.scale, self.shift):
                values[str(task_number)].copy_(values[str(other)])

    def _make_affine(
        self,
        key: str,
        start: tuple[torch.Tensor, torch.Tensor],
        device: torch.device | None = None,
    ) -> None:
        scale, shift = (value.detach().clone().to(device) for value in start)
        self.scale[key] = nn.Parameter(scale)
        self.shift[key] = nn.Parameter(shift)

    def allocate_statistics(self, task_number: int) -> None:
        """Create the buffers of a task, to be filled by ``record`` or a state dict."""
        like = next(iter(self.scale.values()))
        self.mean.register_buffer(str(task_number), torch.zeros_like(like.detach()))
        self.variance.register_buffer(str(task_number), torch.ones_like(like.detach()))

    def has_statistics(self, task_number: int) -> bool:
        """Return whether a task has stored statistics."""
        return str(task_number) in self.mean._buffers

    def statistics_of(self, task_number: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return mean and variance of a task, if they are stored."""
        if not self.has_statistics(task_number):
            return None
        return self.mean.get_buffer(str(task_number)), self.variance.get_buffer(str(task_number))

    def set_statistics(
        self, task_number: int, statistics: tuple[torch.Tensor, torch.Tensor] | None
    ) -> None:
        """Store mean and variance of a task, or forget them."""
        for kind, value in zip((self.mean, self.variance), statistics or (None, None), strict=True):
            kind._buffers.pop(str(task_number), None)
            if value is not None:
                kind.register_buffer(str(task_number), value)

    @contextmanager
    def record(self, *, exact: bool = True) -> Iterator[None]:
        """Sum up what passes through, normalising by the batch, and store it for the task.

        Sums are float64 over all rows; the variance is the biased one. Where it need not be
        ``exact``, rows are summed in float32 within a batch, in half of the time of a forward pass.
        """
        device = next(iter(self.scale.values())).device
        self._recorder = _Moments(self.num_features, device, exact=exact)
        try:
            yield
            mean, variance = self._recorder.result()
        finally:
            self._recorder = None
        self.allocate_statistics(self.task)
        self.mean.get_buffer(str(self.task)).copy_(mean)
        self.variance.get_buffer(str(self.task)).copy_(variance)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise ``x``, ``[n, num_features, ...]``."""
        scale, shift = self.scale[self.affine_key], self.shift[self.affine_key]
        stored = not self.training and self.statistics == "task" and self.has_statistics(self.task)
        if self._recorder is not None:
            self._recorder.add(x)
        elif stored:
            mean = self.mean.get_buffer(str(self.task))
            variance = self.variance.get_buffer(str(self.task))
            return functional.batch_norm(x, mean, variance, scale, shift, eps=self.eps)
        alone = current_processes().size == 1 or not self.training
        if x.numel() == x.shape[1] and alone:
            # One value per channel is its own mean: what is left is the shift. torch refuses it.
            # The difference, not zeros: what x is does not matter, and that is its gradient.
            zeros = torch.zeros_like(scale)
            return functional.batch_norm(x - x, zeros, zeros, scale, shift, eps=self.eps)
        if self.training and current_processes().size > 1:
            return self._over_processes(x, scale, shift)
        return functional.batch_norm(x, None, None, scale, shift, training=True, eps=self.eps)

    def _over_processes(
        self, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor
    ) -> torch.Tensor:
        """Normalise by the whole batch, of which every process has a part."""
        x = x.float()
        others = [axis for axis in range(x.dim()) if axis != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        count = all_sum(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = all_sum(x.sum(dim=others)) / count
        centred = x - mean.view(shape)
        variance = all_sum(centred.square().sum(dim=others)) / count
        factor = (variance + self.eps).rsqrt() * scale
        return centred * factor.view(shape) + shift.view(shape)


class _Moments:
    """Mean and biased variance over all rows of all batches, from float64 sums."""

    def __init__(self, num_features: int, device: torch.device, *, exact: bool) -> None:
        self.exact = exact
        self.device = float64_device(device)
        self.count = 0
        self.sum = torch.zeros(num_features, dtype=torch.float64, device=self.device)
        self.squares = torch.zeros_like(self.sum)

    def add(self, x: torch.Tensor) -> None:
        if not self.exact:
            self._add_moments(x.detach())
            return
        rows = x.detach().to(self.device).double().transpose(0, 1).flatten(1)
        self.count += rows.shape[1]
        self.sum += rows.sum(dim=1)
        self.squares += rows.square().sum(dim=1)

    def _add_moments(self, x: torch.Tensor) -> None:
        others = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(x, others, correction=0)
        variance, mean = (value.to(self.device).double() for value in (variance, mean))
        num_rows = x.numel() // x.shape[1]
        self.count += num_rows
        self.sum += num_rows * mean
        self.squares += num_rows * (variance + mean.square())

    def result(self) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.sum / max(self.count, 1)
        variance = (self.squares / max(self.count, 1) - mean.square()).clamp(min=0)
        return mean, variance
