"""VPT-NSP2: prompts of a vision transformer move where the tokens of old images do not notice.

Every attention block has prompts P ``[m, width]`` beside its tokens. A change of P leaves what
attention gives the tokens of earlier images alone if

    affinity:     Q_h W_h diag(gamma) dP^T = 0    their queries against the prompts' keys,
    aggregation:  A diag(1 / std P) dP = 0        their attention to the prompts, times values,

and P keeps mean and deviation, by which layer norm divides. So the optimiser's step D becomes

    dP = L D R,    L, R = eta N + (1 - eta) I,    N onto the null space of a covariance:

R from those of the rows Q_h W_h diag(gamma), L from those of A diag(1 / std P), over all earlier
images; null spaces begin at the knee of the spectrum. The third condition is a penalty, sum of
mean |mean P - mean P'| + mean |std P - std P'| with P' the prompts of the task before. After task 1
only prompts and the task's own head train.

Remembered: the two covariances of every block.

Source: Lu et al., "Visual Prompt Tuning in Null Space for Continual Learning", NeurIPS 2024.
Departures from their code: N is a projector (``projector=published`` divides by its Frobenius norm,
as they do); covariances are sums over images, where theirs weigh every batch alike; layer norm's
scale gamma and the prompts' deviations are in the rows, without which dP is in neither null space;
every later head starts anew; any width, length and number of heads.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ness_cli.errors import SettingsError
from ness_cli.methods.base import Method
from ness_cli.methods.files import Files, MethodFile, Tensors
from ness_cli.methods.step import StepProgress, TrainStep, cross_entropy
from ness_cli.methods.task import LayerRow, Task
from ness_cli.nets.prompt_covariances import PromptCovariances
from ness_cli.nets.prompts import Prompts
from ness_cli.optim.make import ParameterGroup, divided
from ness_cli.settings.methods.nsp2 import Options
from ness_cli.subspace.decomposition import for_each_spectrum, work_of
from ness_cli.subspace.spectrum import Spectrum, spectrum
from ness_cli.subspace.threshold import threshold


class Nsp2(Method):
    """Memory: ``covariance``, float64.

    ``<block>.affinity`` ``[width, width]``, ``<block>.aggregation`` ``[m, m]``.
    """

    options: Options
    files = (
        MethodFile(
            "covariance",
            made_by="build",
            needed="newest",
            read_by=("train", "build"),
            symmetric=("affinity", "aggregation"),
        ),
    )

    def start(self) -> None:
        """Begin with nothing remembered."""
        self._covariances: Tensors = {}
        self._projectors: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._anchors: list[torch.Tensor] = []

    def check_options(self) -> None:
        """Refuse networks without prompts, and a head that tasks share.

        Raises:
            SettingsError: With what to set.
        """
        super().check_options()
        if not isinstance(getattr(self.model.backbone, "prompts", None), Prompts):
            raise SettingsError(
                "method.name: nsp2 learns the prompts of a vision transformer, and the network has"
                " none",
                "set net.prompts=4 with a vision transformer (net.name=torchvision"
                " net.model=vit_b_16), start from the preset digits-vit-nsp2-quick, or choose"
                " another method",
            )
        if self.model.shared_head:
            raise SettingsError(
                "net.heads: nsp2 does not protect a head that tasks share",
                "set net.heads=per-task",
            )

    @property
    def prompts(self) -> Prompts:
        """The prompts of the network."""
        found = self.model.backbone.prompts
        assert isinstance(found, Prompts)
        return found

    # -- memory ------------------------------------------------------------------------------

    def load_memory(self, files: Files) -> None:
        """Take in the covariances."""
        self._covariances = dict(files.get("covariance", {}))

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of building, the covariances."""
        return {"covariance": self._covariances} if step == "build" else {}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of two covariances for every block."""
        prompts = self.prompts
        return {"covariance": sum(8 * (b.width**2 + prompts.count**2) for b in prompts.blocks)}

    # -- training ----------------------------------------------------------------------------

    def trained_in(self, task_number: int) -> set[nn.Parameter]:
        """Return the parameters that train in a task: prompts and its head, in task 1 maybe all."""
        trained = super().trained_in(task_number)
        if task_number == 1 and self.options.backbone == "first-task":
            return trained
        return trained & {*self.prompts.parameters(), *self.model.own_parameters(task_number)}

    def begin_task(self, task: Task) -> None:
        """Build the projectors, and note where the prompts are."""
        super().begin_task(task)
        if task.is_first:
            return
        tokens = self.prompts.tokens
        self._anchors = [p.detach().clone() for p in tokens]
        self._projectors = [
            (
                self._projector(f"{block.name}.aggregation", p),
                self._projector(f"{block.name}.affinity", p),
            )
            for block, p in zip(self.prompts.blocks, tokens, strict=True)
        ]

    def _projector(self, name: str, like: torch.Tensor) -> torch.Tensor:
        found = spectrum(self._covariances[name], layer=name, device=like.device)
        scaled = self.options.projector == "published"
        tau = self._threshold(found)
        return relaxed_projector(found, tau, self.options.eta, is_scaled=scaled).to(like)

    def _threshold(self, found: Spectrum) -> float:
        return threshold(found.sigma, rule=self.options.threshold, eps1=self.options.eps1)

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return the prompts, at a rate of their own, and the rest."""
        own, rest = divided(self.trainable(), self.prompts.tokens)
        factor = self.options.prompt_lr_factor
        return [ParameterGroup(own, lr_factor=factor), ParameterGroup(rest)]

    def loss(self, step: TrainStep) -> torch.Tensor:
        """Return the cross-entropy of logits divided by the temperature, and the penalty."""
        logits = step.logits() / self.options.temperature
        loss = cross_entropy(logits, step.batch, self.train.label_smoothing)
        penalty = self.penalty(step.progress)
        return loss if penalty is None else loss + penalty

    def penalty(self, progress: StepProgress | None) -> torch.Tensor | None:
        """Return how far means and deviations of the prompts have moved in this task."""
        if not self._anchors or not self.options.drift_weight:
            return None
        moved: list[torch.Tensor] = []
        for p, anchor in zip(self.prompts.tokens, self._anchors, strict=True):
            moved.append((p.mean(dim=1) - anchor.mean(dim=1)).abs().mean())
            moved.append(
                (p.std(dim=1, correction=0) - anchor.std(dim=1, correction=0)).abs().mean()
            )
        return self.options.drift_weight * torch.stack(moved).sum()

    def ascent_direction(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return the projected gradient of prompts, the gradient of any other parameter."""
        gradient = super().ascent_direction(parameter)
        for p, (left, right) in zip(self.prompts.tokens, self._projectors, strict=False):
            if p is parameter:
                return left @ gradient @ right
        return gradient

    @torch.no_grad()
    def apply(self, step: TrainStep, optimizer: torch.optim.Optimizer) -> None:
        """Project the optimiser's step on the prompts."""
        before = [p.clone() for p in self.prompts.tokens] if self._projectors else []
        optimizer.step()
        for p, old, (left, right) in zip(
            self.prompts.tokens, before, self._projectors, strict=False
        ):
            p.copy_(old + left @ (p - old) @ right)

    def end_task(self, task: Task) -> None:
        """Forget where the prompts were."""
        self._projectors, self._anchors = [], []

    # -- consolidation -----------------------------------------------------------------------

    def _work_per_image(self) -> int:
        return sum(block.width**2 for block in self.prompts.blocks)

    def consolidation_work(self, task: Task) -> int:
        """Return the work of passing the task's images through and of decomposing sums."""
        decompositions = sum(
            work_of(block.width) + work_of(self.prompts.count) for block in self.prompts.blocks
        )
        return len(task.train) * self._work_per_image() + decompositions

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Add what the task's images see of the prompts to the covariances.

        Raises:
            NumericalError: If what goes into a block is not finite, naming the block.
        """
        sums = PromptCovariances(self.prompts)
        with sums.accumulate():
            work = self._work_per_image()
            self.forward_images([task.train], lambda count: advance(count * work))
        found = sums.covariances()
        for name, c in self._covariances.items():
            found[name] += c
        self._covariances = found

        def row(name: str, own: Spectrum) -> LayerRow:
            tau, energy = self._threshold(own), own.sigma.square()
            is_open = own.sigma <= tau
            percent = 100 * float(energy[is_open].sum()) / (float(energy.sum()) or 1.0)
            return LayerRow(name, len(energy), int(is_open.sum()), tau, percent, self.options.rule)

        rows = for_each_spectrum(found, row, advance, device=self.device)
        return [rows[f"{block.name}.affinity"] for block in self.prompts.blocks]


def relaxed_projector(own: Spectrum, tau: float, eta: float, *, is_scaled: bool) -> torch.Tensor:
    """Return eta N + (1 - eta) I, N onto the directions with sigma <= tau.

    Args:
        own: Spectrum of d directions.
        tau: Threshold, in the units of sigma.
        eta: A fraction.
        is_scaled: Divide N by its Frobenius norm.

    Returns:
        ``[d, d]`` float64, symmetric.
    """
    num_open = int((own.sigma <= tau).sum())
    u = own.between(0, num_open)
    n = u @ u.T
    if is_scaled and num_open:
        n = n / num_open**0.5
    return eta * n + (1 - eta) * torch.eye(len(own.sigma), dtype=n.dtype)
