"""OWM: in every step, close the mean inputs of the batch to this step and all that follow.

Every layer has a symmetric matrix P, at first the identity. In every step, from the first task on,
each row r of the layer's inputs, averaged over the batch, makes

    P <- P - (P r)(P r)^T / (alpha + r^T P r),    G <- G P,

G the gradient of the batch, projected with the P that knows the batch. So P^-1 is I plus the sum of
r r^T / alpha: P tends to the projector off the span of all inputs seen. A convolution's rows are
the windows of the mean input, all with one alpha; alpha falls in the course of a task.

Remembered: P, ``[d, d]`` per layer; training makes it, and what it leaves is read by the next task.

Source: Zeng, Chen, Cui, Yu, "Continual learning of context-dependent processing in neural
networks", Nature Machine Intelligence 2019, with the schedules of their code. Departures from it:
heads of single tasks, which train once, have no P; weights are chosen by validation images of the
task or not at all, where theirs are the best on the test images of all classes over all tasks; P
is float64, since float32 loses its sign at small alpha; decay is projected too. Momentum, as in
their code, mixes in gradients projected with the larger P of earlier steps; norms are clipped after
the projection if ``train.clip_norm`` is set (theirs: at 10), and nothing pulls weights to zero but
decay (theirs: sum ||W||_F in an MLP). SAM goes uphill along the raw gradient, and P learns the
inputs at the weights themselves.
"""

from __future__ import annotations

import torch

from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.methods.files import Files, MethodFile, Tensors, by_layer, with_kind
from ness_cli.methods.step import TrainStep
from ness_cli.methods.task import Task
from ness_cli.numerics import float64_device, in_float64
from ness_cli.settings.methods.owm import Options
from ness_cli.subspace.layer_inputs import observed_inputs
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.recursive_projector import close_, published_decays


class Owm(ProjectedMethod):
    """Memory: ``projector`` (``<layer>.P``, ``[d, d]`` float64, symmetric)."""

    options: Options
    files = (
        MethodFile(
            "projector", made_by="train", needed="newest", read_by=("train",), symmetric=("P",)
        ),
    )

    def start(self) -> None:
        """Begin with everything open."""
        self._p: Tensors = {}
        self._means: Tensors = {}

    def check_options(self) -> None:
        """Refuse lists of options that are not one value per layer, and compilation.

        Raises:
            SettingsError: If an option lists another number of layers than the network has, or the
                network is to be compiled.
        """
        super().check_options()
        self._alphas(0.0)
        self.refuse_compilation(
            "a compiled network does not show the inputs of its layers in training, which method"
            " owm needs"
        )

    def load_memory(self, files: Files) -> None:
        """Take in P of every layer."""
        self.load_state_tensors(files.get("projector", {}))

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of training, P of every layer."""
        return {"projector": self.state_tensors()} if step == "train" else {}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of a float64 matrix per layer."""
        return {"projector": sum(8 * layer.dim**2 for layer in self.layers.values())}

    def state_tensors(self) -> Tensors:
        """Return P of every layer."""
        return with_kind(self._p, "P")

    def load_state_tensors(self, tensors: Tensors) -> None:
        """Take in P of every layer."""
        device = float64_device(self.device)
        self._p = {n: p.to(device, copy=True) for n, p in by_layer(tensors, "P").items()}

    # -- training ----------------------------------------------------------------------------

    def projectors(self, task: Task) -> dict[str, Projector]:
        """Return none: P changes with every step."""
        return {}

    def begin_task(self, task: Task) -> None:
        """Give every layer that has none its P, on the device of training."""
        super().begin_task(task)
        device = float64_device(self.device)
        for name, layer in self._views.items():
            eye = torch.eye(layer.dim, dtype=torch.float64)
            self._p[name] = self._p.get(name, eye).to(device)

    def gradients(self, step: TrainStep) -> torch.Tensor:
        """Leave raw gradients, and note the mean inputs of the step's first pass."""
        # While a head learns alone, no other layer steps.
        stepping = {n: layer for n, layer in self._views.items() if layer.weight.requires_grad}
        with observed_inputs(stepping, self._note):
            return super().gradients(step)

    def _note(self, layer: str, x: torch.Tensor) -> None:
        if layer not in self._means:
            self._means[layer] = x.float().mean(dim=0, keepdim=True)

    @torch.no_grad()
    def edit_gradients(self, step: TrainStep) -> None:
        """Let P of every layer take in the batch, and project gradients and decay with it."""
        means, self._means = self._means, {}
        # Of several processes each has the mean of its own images.
        for mean in means.values():
            mean *= step.batch.weight
        step.sum_over_processes([*means.values()])
        alphas, decay = self._alphas(step.progress.fraction), self.train.weight_decay
        for name, mean in means.items():
            layer, p = self._views[name], self._p[name]
            close_(p, in_float64(layer.rows(mean, every=self.options.window_step)), alphas[name])
            if layer.weight.grad is None:
                continue
            gradient = layer.gradient()
            total = gradient + decay * layer.matrix() if decay else gradient
            layer.set_gradient(total @ p.to(gradient))

    @torch.no_grad()
    def decay(self) -> None:
        """Take lambda W, which has been projected, off again; the optimiser adds it as it is."""
        if not self.train.weight_decay:
            return
        for layer in self._views.values():
            if layer.weight.grad is not None:
                change = layer.gradient() - self.train.weight_decay * layer.matrix()
                layer.set_gradient(change)

    def _alphas(self, fraction: float) -> dict[str, float]:
        """Return alpha of every layer when a fraction of the task's steps are done."""
        layers, options = self.layers, self.options
        decays = options.alpha_decay
        if decays is None:
            modules = [layer.module for layer in layers.values()]
            decays = published_decays(modules, has_shared_head=self.model.shared_head)
        starts = self._per_layer(options.alpha, "alpha", len(layers))
        decays = self._per_layer(decays, "alpha_decay", len(layers))
        return {
            name: start * 10 ** (-decay * fraction)
            for name, start, decay in zip(layers, starts, decays, strict=True)
        }
