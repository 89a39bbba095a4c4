"""FS-DGPM: replay at a flat minimum along old directions, and steps off them as far as they matter.

The leading directions M of earlier inputs, rebuilt after every task from stored images, have
weights Lambda in (0, 1). A step divides its batch and goes uphill with each part in turn, along the
old directions only,

    W' <- W' + ascent_lr G' M Lambda M^T,  G' the gradient of that part at W',

and takes the loss of the batch and of stored images at every W'. The mean of these is what the
step goes down, in the weights, by

    G <- G - G M Lambda M^T,

and in Lambda = sigmoid(10 z), which opens directions along which the minimum is sharp. Heads and
other parameters go uphill along their whole gradients, in the first task all do.

Remembered: the images, M ``[d, k]`` per layer.

Source: Deng, Chen, Hao, Wang, Huang, "Flattening Sharpness for Dynamic Gradient Projection Memory
Benefits Continual Learning", NeurIPS 2021. Departures from their code: z is trained (theirs takes
the sigmoid of the weights anew in every step, so that they stay at 0.99995: ``soft=fixed``); the
loss is the mean over the parts that there are (theirs divides by two a last batch of one image); a
step is projected by the weights that it was computed with; images are stored when a task is
learned, not in its first epoch, so that a task replays none of its own; those of a step are of one
earlier task; momentum goes on where the rate drops (theirs starts a new optimiser); a batch gives
one step (theirs five on permuted MNIST); shared scales and shifts rest after task 1 (theirs train
on, but for superclasses).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import nn

from ness_cli import seeding
from ness_cli.data.batches import Batch, Images
from ness_cli.errors import SettingsError
from ness_cli.methods.base_projected import ProjectedMethod
from ness_cli.methods.base_replay import ReplayMethod
from ness_cli.methods.files import Files, MethodFile, Tensors, by_layer, with_kind
from ness_cli.methods.step import TrainStep, cross_entropy
from ness_cli.methods.task import LayerRow, Task
from ness_cli.optim.make import ParameterGroup
from ness_cli.processes import current_processes
from ness_cli.settings.methods.fs_dgpm import Options
from ness_cli.subspace.covariance import CovarianceAccumulator, PassProgress
from ness_cli.subspace.decomposition import for_each_spectrum, work_of
from ness_cli.subspace.layer_view import join, split
from ness_cli.subspace.projection import Projector
from ness_cli.subspace.protected_directions import extend, room
from ness_cli.subspace.spectrum import Spectrum

_STEEPNESS = 10.0  # of the sigmoid; z = 1 is a weight of 0.99995


class FsDgpm(ReplayMethod, ProjectedMethod):
    """Memory: ``memory`` as of every method that replays; ``protected``, ``<layer>.M`` as GPM's."""

    options: Options
    projects_rows = False
    files = (
        *ReplayMethod.files,
        MethodFile(
            "protected", made_by="build", needed="newest", read_by=("train",), orthonormal=("M",)
        ),
    )

    def start(self) -> None:
        """Begin with no images, and nothing protected."""
        super().start()
        self._protected: Tensors = {}
        self._columns: Tensors = {}
        self._soft: dict[str, nn.Parameter] = {}
        self._ascent_lr = self.options.ascent_lr

    def check_options(self) -> None:
        """Refuse a compiled network.

        Raises:
            SettingsError: Naming the setting.
        """
        super().check_options()
        self.refuse_compilation("fs-dgpm computes with other weights than the network's")

    # -- memory ------------------------------------------------------------------------------

    def load_memory(self, files: Files) -> None:
        """Take in images and protected directions."""
        super().load_memory(files)
        self._protected = by_layer(files.get("protected", {}), "M")

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return, of building, the images and the protected directions."""
        if step != "build":
            return {}
        return {**super().outputs(step), "protected": with_kind(self._protected, "M")}

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of a full memory, and of directions that span everything."""
        size = sum(4 * layer.dim**2 for layer in self.layers.values())
        return {**super().file_sizes(), "protected": size}

    # -- training ----------------------------------------------------------------------------

    def projectors(self, task: Task) -> dict[str, Projector]:
        """Return the projections off the protected directions, none in the first task."""
        return self._off()

    def _off(self) -> dict[str, Projector]:
        """Return the projections with the weights of the moment."""
        return {name: Projector.off(m, self._weights(name)) for name, m in self._columns.items()}

    def _weights(self, layer: str) -> torch.Tensor | None:
        """Return Lambda of a layer, ``[k]``, without a gradient; ``None`` for ones."""
        z = self._soft.get(layer)
        return None if z is None else torch.sigmoid(_STEEPNESS * z.detach())

    def begin_task(self, task: Task) -> None:
        """Set the weights of all protected directions back.

        Raises:
            SettingsError: If several processes divide the steps.
        """
        if current_processes().size > 1:
            raise SettingsError(
                "method.name: fs-dgpm does not divide its steps uphill among processes",
                "train in one process, without torchrun",
            )
        self._columns = {name: m.to(self.device) for name, m in self._protected.items()}
        self._ascent_lr, self._soft = self.options.ascent_lr, {}
        if self.options.soft == "learned":
            self._soft = {
                name: nn.Parameter(m.new_ones(m.shape[1])) for name, m in self._columns.items()
            }
        super().begin_task(task)

    def parameter_groups(self, task: Task) -> list[ParameterGroup]:
        """Return what the projected methods step, and z; while a head learns alone, not z."""
        groups = super().parameter_groups(task)
        own = {} if self._resting else {f"soft.{name}": z for name, z in self._soft.items()}
        return [*groups, ParameterGroup(own, weight_decay=0.0, lr_factor=self.options.soft_lr)]

    def gradients(self, step: TrainStep) -> torch.Tensor:
        """Leave the gradients of the mean loss of batch and replay at all points uphill."""
        if self._resting:
            return super().gradients(step)
        count = self.options.replay_batch or self.train.batch_size
        batches = [step.batch, *self.replayed(step, count, is_mixed=False)]
        losses = [self._mean_loss(step, batches, weights) for weights in self._uphill(step)]
        loss = torch.stack(losses).mean()
        step.backward(loss)
        return loss.detach()

    def _mean_loss(self, step: TrainStep, batches: list[Batch], weights: Tensors) -> torch.Tensor:
        """Return the mean loss over all images of some batches, with some weights."""
        smoothing, total = self.train.label_smoothing, sum(map(len, batches))
        losses = [
            len(batch) / total * cross_entropy(step.forward(batch, weights), batch, smoothing)
            for batch in batches
        ]
        return torch.stack(losses).sum()

    def _uphill(self, step: TrainStep) -> Iterator[Tensors]:
        """Yield the weights after every step uphill, by parameter; they have their gradients."""
        weights: Tensors = dict(self.trainable())
        second = self.options.second_order
        for part in self._parts(step.batch):
            loss = self._mean_loss(step, [part], weights)
            found = torch.autograd.grad(
                loss, list(weights.values()), create_graph=second, allow_unused=True
            )
            gradients = {n: g for n, g in zip(weights, found, strict=True) if g is not None}
            moves = self._moves(gradients)
            weights = {
                name: value + self._ascent_lr * moves[name] if name in moves else value
                for name, value in weights.items()
            }
            yield weights

    def _parts(self, batch: Batch) -> list[Batch]:
        """Return the parts of a batch that go uphill, none too small to be normalised."""
        smallest = 1 if self.model.statistics == "none" else 2
        count = max(1, min(self.options.inner_steps, len(batch) // smallest))
        pieces = zip(batch.x.tensor_split(count), batch.y.tensor_split(count), strict=True)
        return [replace(batch, x=x, y=y) for x, y in pieces]

    def _moves(self, gradients: Tensors) -> Tensors:
        """Return the directions uphill: of confined layers what lies in the protected ones."""
        found = dict(gradients)
        names = {id(p): name for name, p in self.trainable().items()}
        for layer, columns in self._columns.items():
            view = self._views[layer]
            keys = {part: names.get(id(p), "") for part, p in view.parameters.items()}
            if not all(key in gradients for key in keys.values()):
                continue
            z = self._soft.get(layer)
            inner = join({part: gradients[key] for part, key in keys.items()}) @ columns
            inner = inner if z is None else inner * torch.sigmoid(_STEEPNESS * z)
            for part, value in split(inner @ columns.T, view.parameters).items():
                found[keys[part]] = value
        limit = self.options.gradient_clip
        return found if limit is None else {n: g.clamp(-limit, limit) for n, g in found.items()}

    @torch.no_grad()
    def edit_gradients(self, step: TrainStep) -> None:
        """Clip the gradients, then project those of the network."""
        limit = self.options.gradient_clip
        if limit is not None:
            nn.utils.clip_grad_norm_(self.trainable().values(), limit)
            nn.utils.clip_grad_norm_(self._soft.values(), limit)
        if self._soft:
            self._projectors = self._off()
        super().edit_gradients(step)

    def on_lr_drop(self, factor: float) -> None:
        """Let the rate uphill drop too."""
        if factor:
            self._ascent_lr /= factor

    def state_tensors(self) -> Tensors:
        """Return the rate uphill."""
        return {"ascent_lr": torch.tensor(self._ascent_lr, dtype=torch.float64)}

    def load_state_tensors(self, tensors: Tensors) -> None:
        """Take in the rate uphill."""
        self._ascent_lr = float(tensors["ascent_lr"])

    def end_task(self, task: Task) -> None:
        """Forget the weights of directions."""
        super().end_task(task)
        self._columns, self._soft = {}, {}

    # -- consolidation -----------------------------------------------------------------------

    def consolidation_work(self, task: Task) -> int:
        """Return the work of choosing images, of summing up their inputs and decomposing."""
        decompositions = sum(work_of(layer.dim) for layer in self.layers.values())
        inputs = self._most_samples(task) * self.work_per_image(task.train)
        return super().consolidation_work(task) + inputs + decompositions

    def _most_samples(self, task: Task) -> int:
        """Return from how many images directions are taken at most, before any is stored."""
        stored = self._memory.sets(task.train.labels.device)
        known = min(self.options.memory, sum(map(len, stored)) + len(task.train))
        return min(known, self.options.samples or known)

    def consolidate(self, task: Task, advance: Callable[[int], None]) -> list[LayerRow]:
        """Store images of this task, and find the leading directions of all that are stored.

        Raises:
            NumericalError: If a layer's inputs are not finite, naming the layer.
        """
        layers, most = self.layers, self._most_samples(task)
        super().consolidate(task, advance)
        progress = PassProgress(advance, self.work_per_image(task.train))
        accumulator = CovarianceAccumulator(layers, tick=progress.chunk)
        with torch.no_grad(), accumulator.accumulate():
            for images, positions in self._sample(task):
                with self.task_view(images.task) as model:
                    model(images.batch(positions).x)
        progress.images(most)
        grams = accumulator.covariances()
        increase = self.options.threshold_increase * (task.number - 1)
        theta = min(self.options.threshold + increase, 1.0)

        def protect(name: str, found: Spectrum) -> LayerRow:
            m = extend(grams[name], None, found, theta, first_rank="reach")
            self._protected[name] = m
            rank, energy = room(grams[name], m)
            return LayerRow(name, layers[name].dim, rank, theta, 100 * energy, "share of energy")

        return list(for_each_spectrum(grams, protect, advance, device=self.device).values())

    def _sample(self, task: Task) -> Iterator[tuple[Images, torch.Tensor]]:
        """Yield the stored images that directions are taken from: sets and positions in them."""
        sets = self._memory.sets(task.train.labels.device)
        owners = torch.arange(len(sets)).repeat_interleave(torch.tensor([len(i) for i in sets]))
        generator = seeding.generator(self.seed, "fs-dgpm-samples", task.number)
        chosen = torch.randperm(len(owners), generator=generator)[: self.options.samples]
        fewest = self.model.smallest_batch(2)
        start = 0
        for number, images in enumerate(sets):
            positions = chosen[owners[chosen] == number] - start
            start += len(images)
            if len(positions) >= fewest:
                yield images, positions
