"""The groups of settings that do not depend on a chosen component."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator
from typing_extensions import Self

from ness_cli import registry
from ness_cli.errors import did_you_mean
from ness_cli.settings.base import Section, only_with
from ness_cli.settings.components import METHOD_NAME, METHODS
from ness_cli.words import counted


class NormSettings(Section):
    """How normalisation layers treat tasks."""

    statistics: Literal["task", "batch"] = "task"
    """``task``: mean and variance of each task's training data are stored with the task and used
    ever after; validation in training goes by those of a sample of it. ``batch``: every batch is
    normalised by itself, as published; accuracy then depends on how test images are batched."""
    affine: Literal["frozen", "per-task"] = "frozen"
    """``frozen``: scale and shift are learned in task 1 only. ``per-task``: each task has its
    own."""


class SamSettings(Section):
    """Sharpness-aware minimisation (Foret et al. 2021): descend from a perturbed point."""

    tasks: Literal["none", "first", "all"] = "none"
    """Tasks trained with SAM; the published NESS runs used it in the first task only."""
    rho: float = Field(default=0.05, gt=0, json_schema_extra=only_with(tasks=("all", "first")))
    """Length of the perturbation."""


class TrainSettings(Section):
    """How one task is trained."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the task's training images, at most."""
    batch_size: int = Field(default=64, ge=1)
    """Images per step; the last batch of an epoch may be smaller."""
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """Optimiser, made anew for every task; ``adamw`` decays weights apart from the gradient."""
    lr: float = Field(default=0.01, gt=0)
    """Learning rate at the start of every task."""
    momentum: float = Field(default=0.9, ge=0, lt=1, json_schema_extra=only_with(optimizer="sgd"))
    """Momentum of ``sgd``."""
    weight_decay: float = Field(default=0.0, ge=0)
    """L2 decay. Methods that protect directions decay toward the previous task's weights."""
    schedule: Literal["constant", "cosine", "exponential", "plateau"] = "cosine"
    """``plateau`` divides the rate when the validation loss stops improving, as published.
    ``exponential`` multiplies it by ``lr_decay`` in every epoch, a little at every step."""
    warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the steps, at the start of a task, over which the rate rises from zero."""
    lr_decay: float = Field(
        default=0.95, gt=0, le=1, json_schema_extra=only_with(schedule="exponential")
    )
    """``exponential``: factor on the rate over an epoch."""
    lr_factor: float = Field(default=2.0, gt=1, json_schema_extra=only_with(schedule="plateau"))
    """``plateau``: divisor of the learning rate."""
    patience: int = Field(default=6, ge=1, json_schema_extra=only_with(schedule="plateau"))
    """``plateau``: epochs without improvement before the rate drops."""
    lr_min: float = Field(
        default=1e-5, ge=0, json_schema_extra=only_with(schedule=("plateau", "cosine"))
    )
    """``plateau``: the task ends when the rate falls below this. ``cosine``: the final rate."""
    clip_norm: float | None = Field(default=None, gt=0)
    """Scale gradients down to this norm, that of all of them together, before every step; not at
    all when absent. What a method protects is projected before."""
    weights: Literal["best", "last"] = "last"
    """Which weights a task ends with: those of the lowest validation loss, or the last."""
    average: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps, at the end of a task, over which the weights are averaged (Izmailov et
    al. 2018); 0 averages nothing."""
    head_epochs: int = Field(default=0, ge=0)
    """Of ``epochs``, the first ones of every task after the first in which its head learns alone.
    Both parts follow the schedule on their own."""
    mixup: float = Field(default=0.0, ge=0)
    """Mix images and labels of a batch with a weight drawn from Beta(mixup, mixup) (Zhang et al.
    2018); 0 mixes nothing."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of every training label that is spread over all classes of its task (Szegedy et al.
    2016)."""
    sam: SamSettings = SamSettings()
    """Sharpness-aware minimisation."""
    augment: Annotated[tuple[str | dict[str, dict[str, JsonValue]], ...], Field(strict=False)] = ()
    """Random changes of training images: names of torchvision's transforms (v2), each alone or with
    its arguments, as in ``[RandomHorizontalFlip, {RandomCrop: {size: 32, padding: 4}}]``."""

    @property
    def is_adaptive(self) -> bool:
        """Whether the optimiser scales every coordinate on its own, as Adam does."""
        return self.optimizer in ("adam", "adamw")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.head_epochs >= self.epochs:
            left = f"leaves none of {counted(self.epochs, 'epoch')} to the rest"
            raise ValueError(f"head_epochs = {self.head_epochs} {left}")
        if self.average and (self.weights == "best" or self.schedule == "plateau"):
            raise ValueError(
                "average needs weights=last and schedule=cosine, exponential or constant: "
                "the end of training must be known"
            )
        return self


class ComputeSettings(Section):
    """How the device computes."""

    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of training steps. ``tf32``: matrix products of an NVIDIA GPU keep 10 bits of a factor; it
    changes nothing elsewhere, and does not go with ``compile``. ``bf16``: forward and backward
    passes in bfloat16. Weights, projections, covariances and evaluation are float32 or better in
    any case."""
    compile: Literal["off", "on"] = "off"
    """``on``: ``torch.compile`` for the forward and backward pass of training, with CUDA graphs on
    a GPU. The first steps of every task take longer, and a C++ compiler must be there."""
    channels_last: bool | None = None
    """Lay images out pixel by pixel in training, all channels of a pixel together. Rounds
    differently. When absent, on a CPU, where pooling, normalisation and convolutions are faster."""
    determinism: Literal["strict", "seeded", "off"] = "strict"
    """``strict``: only algorithms that give the same bits every time on the same machine.
    ``seeded``: the same random numbers, sums in any order. ``off``: a GPU may also choose its
    algorithms by trial."""

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.precision == "tf32" and self.compile == "on":
            raise ValueError(
                "compile = on cannot keep projections in float32 with precision = tf32: "
                "set precision=bf16 or fp32, or compile=off"
            )
        return self

    def on(self, device_type: str) -> ComputeSettings:
        """Return the settings with what depends on the device decided.

        Args:
            device_type: As torch calls it: ``cpu``, ``cuda``.
        """
        by_pixel = device_type == "cpu" if self.channels_last is None else self.channels_last
        return self.model_copy(update={"channels_last": by_pixel})

    def notes(self) -> tuple[str, ...]:
        """Return what every report must say of numbers computed this way."""
        found = []
        if self.precision != "fp32":
            found.append(f"training steps were computed in {self.precision}")
        if self.determinism != "strict":
            found.append(f"determinism: {self.determinism}; the same command may give other bits")
        return tuple(found)


class MethodSettings(Section):
    """Which method learns the stream; its options stand under ``methods.<name>``."""

    name: Annotated[str, METHOD_NAME] = METHODS.default
    """A name that ``ness methods`` lists."""


class EvaluateSettings(Section):
    """How accuracy is measured."""

    scenario: Literal["task", "class", "both"] = "task"
    """``task``: the task of an image is known. ``class``: it is not, all heads compete."""
    validation: bool = False
    """Score the validation images of every task too, to choose settings by without looking at test
    images."""
    batch_size: int = Field(default=500, ge=1)
    """Images per forward pass. Part of the result only with ``norm.statistics=batch``."""


class StorageSettings(Section):
    """What a finished task keeps on disk."""

    keep: Literal["all", "latest"] = "all"
    """``latest``: of the large files only the newest covariance and model, and model 1; every
    basis and update is kept, from which any model is recomposed."""
    progress_picture: bool = True
    """Draw ``progress.png`` into the run folder as tasks are evaluated, where matplotlib is
    installed."""


class CheckpointSettings(Section):
    """How often a task in training is saved."""

    seconds: float = Field(default=60.0, ge=0)
    """Seconds between checkpoints inside a task; 0 saves after every step."""


class TrackSettings(Section):
    """Other programs that follow a run; no part of what it computes."""

    to: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """``csv`` and ``jsonl`` write a file; ``tensorboard`` event files; ``wandb``, ``trackio`` and
    ``mlflow`` tell those, where their packages are installed. Several may be given."""
    folder: str | None = None
    """``csv``, ``jsonl``, ``tensorboard``: where their files go, in a folder for each run; in the
    run folder when absent."""
    project: str = "ness"
    """``wandb``, ``trackio``: the project; ``mlflow``: the experiment."""

    @field_validator("to")
    @classmethod
    def _are_known(cls, found: tuple[str, ...]) -> tuple[str, ...]:
        known = registry.names("ness_cli.trackers")
        for name in found:
            if name not in known:
                near = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                raise ValueError(f"unknown tracker {name!r}{near}")
        return found
