"""HAT: every task learns which units it needs, and what they do is kept from later tasks.

A task t has an embedding e per unit (channel), its gates are a = sigmoid(s e), and every activation
is multiplied by its gate. s rises from 1 / s_max to s_max in every epoch, so that gates learn while
they are soft and are used hard. The loss has

    c R,    R = sum a (1 - M) / sum (1 - M),

where M, the largest gate that an earlier task had, is what is taken: a unit that is taken is free
to use. The step of the weight from unit j to unit i is multiplied by

    1 - min(M_i, M_j),

that of a bias by 1 - M_i; M is 1 where there are no units to gate, as at the image and at a head.
The gradient of e, which is small where the gate is steep, is multiplied by

    (s_max / s) (cosh(s e) + 1) / (cosh(e) + 1).

Remembered: an embedding per unit and task; a task is evaluated with its own, it must be known.

Source: Serra, Suris, Miron, Karatzoglou, "Overcoming Catastrophic Forgetting with Hard Attention to
the Task", ICML 2018. Departures from their code: steps are masked, not gradients, which is the same
without momentum and decay and protects with them, and with Adam, too; ``train.clip_norm`` sees the
whole gradients; s rises with the share of steps, not of images, which differ by a smaller last
batch; where every unit is taken R is zero (theirs divides by zero); gates stand behind each
activation, before dropout and pooling, which is the same as behind them; units that are added up
share their gates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ness_cli import seeding
from ness_cli.errors import SettingsError
from ness_cli.methods.base import Method
from ness_cli.methods.files import Files, MethodFile, Tensors, by_layer, with_kind
from ness_cli.methods.step import StepProgress, TrainStep
from ness_cli.methods.task import Task
from ness_cli.nets.multi_head import MultiHead
from ness_cli.nets.units import HEADS, Units
from ness_cli.optim.make import ParameterGroup, divided
from ness_cli.settings.methods.hat import Options
from ness_cli.subspace.layer_view import LayerView, adapted_layers


class Hat(Method):
    """Memory: per task ``gates``, ``<first activation>.embedding``, ``[units]`` float32."""

    options: Options
    files = (MethodFile("gates", made_by="train", needed="all", of_task=True),)

    def start(self) -> None:
        """Put gates, which let everything pass until there are embeddings, on all units."""
        self._units: dict[str, Units] = {
            units.activations[0]: units for units in getattr(self.model.backbone, "units", ())
        }
        self._embeddings: dict[int, Tensors] = {}
        self._taken: Tensors = {}
        self._free: list[tuple[nn.Parameter, torch.Tensor]] = []
        self._before: list[torch.Tensor] = []
        self._steepness = torch.tensor(self.options.sharpness)
        for name, units in self._units.items():
            for activation in units.activations:
                module = self.model.backbone.get_submodule(activation)
                module.register_forward_hook(
                    lambda _module, _args, x, name=name: self._gated(name, x)
                )

    def check_options(self) -> None:
        """Refuse networks that do not say which units their layers put out.

        Raises:
            SettingsError: Naming the network, or the layer.
        """
        super().check_options()
        produced = {name for units in self._units.values() for name in units.producers}
        silent = [name for name in self._backbone_layers() if name not in produced]
        if silent:
            kind = type(self.model.backbone).__name__.lower()
            raise SettingsError(
                f"method.name=hat: {kind} does not say which units layer {silent[0]} puts out",
                "choose net.name=mlp, alexnet, lenet or resnet18, or another method",
            )

    def _backbone_layers(self) -> dict[str, LayerView]:
        return adapted_layers(self.model.backbone, None)

    # -- gates -------------------------------------------------------------------------------

    def gate(self, name: str, task_number: int, steepness: torch.Tensor) -> torch.Tensor:
        """Return sigmoid(s e) of a set of units in a task, ``[units]``."""
        return torch.sigmoid(steepness * self._embeddings[task_number][name])

    def _gated(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if self.model.task not in self._embeddings:
            return x
        gate = self.gate(name, self.model.task, self._steepness).to(x)
        return x * gate.view(1, -1, *[1] * (x.dim() - 2))

    def steepness(self, progress: StepProgress) -> float:
        """Return s at a step: from 1 / s_max at the start of an epoch to s_max at its end."""
        most = self.options.sharpness
        return 1 / most + (most - 1 / most) * progress.step / progress.steps_per_epoch

    @contextmanager
    def task_view(self, task_number: int) -> Iterator[MultiHead]:
        """Give the model as a task knows it, with its gates as hard as they get."""
        before = self._steepness
        self._steepness = before.new_tensor(self.options.sharpness)
        try:
            with super().task_view(task_number) as model:
                yield model
        finally:
            self._steepness = before

    # -- memory ------------------------------------------------------------------------------

    def reads_of_every_task(self, step: str) -> tuple[str, ...]:
        """Return the gates of all tasks, except for building, which makes nothing."""
        return () if step == "build" else ("gates",)

    def load_task_memory(self, task_number: int, files: Files) -> None:
        """Take in the embeddings of a task."""
        own = by_layer(files.get("gates", {}), "embedding").items()
        self._embeddings[task_number] = {name: e.to(self.device) for name, e in own}

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of training, the embeddings of the task."""
        if step != "train":
            return {}
        own = self._embeddings[max(self._embeddings)].items()
        return {"gates": with_kind({name: e.cpu() for name, e in own}, "embedding")}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of an embedding per unit."""
        return {"gates": sum(4 * units.count for units in self._units.values())}

    # -- training ----------------------------------------------------------------------------

    def begin_task(self, task: Task) -> None:
        """Draw embeddings, and see what is taken."""
        super().begin_task(task)
        device = self.device
        number, most = task.number, torch.tensor(self.options.sharpness, device=device)
        earlier = range(1, number)
        self._embeddings = {
            t: {n: e.to(device) for n, e in self._embeddings[t].items()} for t in earlier
        }
        self._taken = {
            name: torch.stack(
                [
                    torch.zeros(units.count, device=device),
                    *(self.gate(name, t, most).detach() for t in earlier),
                ]
            ).amax(dim=0)
            for name, units in self._units.items()
        }
        self._free = self._free_shares() if earlier else []
        self._steepness = most.clone()
        self._embeddings[number] = {}
        for name, units in self._units.items():
            generator = seeding.generator(self.seed, f"embedding of {name}", number)
            drawn = torch.randn(units.count, generator=generator)
            self._embeddings[number][name] = nn.Parameter(drawn.to(device))

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return the parameters that require a gradient, with the embeddings of the task."""
        own = self._embeddings.get(self.model.task, {}).items()
        gates = {
            f"gates.{name}": e for name, e in own if isinstance(e, nn.Parameter) and e.requires_grad
        }
        return {**super().trainable(), **gates}

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return weights and embeddings; these do not decay."""
        embeddings = self._embeddings[task.number].values()
        gates, weights = divided(self.trainable(), embeddings)  # type: ignore[arg-type]
        return [ParameterGroup(weights), ParameterGroup(gates, weight_decay=0.0)]

    def loss(self, step: TrainStep) -> torch.Tensor:
        """Return cross-entropy and c R, with gates as steep as the step has them."""
        self._steepness.fill_(self.steepness(step.progress))
        return super().loss(step)

    def penalty(self, progress: StepProgress | None) -> torch.Tensor | None:
        """Return c R; in validation with gates as hard as they get."""
        hardest = self._steepness.new_tensor(self.options.sharpness)
        steepness = hardest if progress is None else self._steepness
        left = {name: 1 - taken for name, taken in self._taken.items()}
        total = torch.stack([free.sum() for free in left.values()]).sum()
        gates = {name: self.gate(name, self.model.task, steepness) for name in left}
        opened = torch.stack([(gates[name] * free).sum() for name, free in left.items()]).sum()
        return self.options.sparsity * opened / total if total > 0 else 0 * opened

    def ascent_direction(self, parameter: nn.Parameter) -> torch.Tensor:
        """Return the gradient where the weight may move."""
        gradient = super().ascent_direction(parameter)
        free = next((share for own, share in self._free if own is parameter), None)
        return gradient if free is None else gradient * free

    @torch.no_grad()
    def edit_gradients(self, step: TrainStep) -> None:
        """Make up for the steepness of gates in the gradients of embeddings."""
        options, s = self.options, self._steepness
        for e in self._embeddings[self.model.task].values():
            if e.grad is not None:
                steep = (s * e).clamp(-options.steepness_limit, options.steepness_limit)
                e.grad *= options.sharpness / s * (steep.cosh() + 1) / (e.cosh() + 1)

    @torch.no_grad()
    def apply(self, step: TrainStep, optimizer: torch.optim.Optimizer) -> None:
        """Make the step, and keep of it what belongs to units that are not taken."""
        before = [parameter.clone() for parameter, _ in self._free]
        optimizer.step()
        for (parameter, free), old in zip(self._free, before, strict=True):
            parameter.copy_(old + (parameter - old) * free)

    @torch.no_grad()
    def after_step(self, step: TrainStep) -> None:
        """Keep embeddings within their limit."""
        limit = self.options.embedding_limit
        for e in self._embeddings[self.model.task].values():
            e.clamp_(-limit, limit)

    def end_task(self, task: Task) -> None:
        """Keep the embeddings of the task."""
        own = self._embeddings[task.number].items()
        self._embeddings[task.number] = {name: e.detach() for name, e in own}
        self._free = []

    def measured(self) -> dict[str, Any]:
        """Return the share of units, in percent, that this task and earlier ones have taken."""
        newest = max(self._embeddings)
        most = torch.tensor(self.options.sharpness, device=self._steepness.device)
        taken = {
            name: torch.maximum(self._taken[name], self.gate(name, newest, most))
            for name in self._units
        }
        return {"units_taken": {name: 100 * float(m.mean()) for name, m in taken.items()}}

    def _free_shares(self) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return 1 - min(M_i, M_j) of every weight that tasks share, and 1 - M_i of every bias."""
        found, layers = [], dict(self._backbone_layers())
        if self.model.shared_head:
            layers[HEADS] = LayerView(HEADS, self.model.head(1))
        outputs = {
            producer: self._taken[name]
            for name, u in self._units.items()
            for producer in u.producers
        }
        inputs = {
            reader.layer: self._taken[name].repeat_interleave(reader.columns)
            for name, u in self._units.items()
            for reader in u.consumers
        }
        for name, layer in layers.items():
            everything = layer.weight.new_ones(())
            post = outputs.get(name, everything.expand(layer.out))[:, None]
            taken = torch.minimum(post, inputs.get(name, everything)).expand(layer.out, layer.dim)
            for key, p in layer.module.named_parameters(recurse=False):
                own = taken if key == "weight" else post
                found.append((p, (1 - own).reshape(p.shape)))
        return found
