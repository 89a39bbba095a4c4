"""What a method says, once, of the files it leaves: stages ask, and know none of them by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

Tensors = dict[str, torch.Tensor]
Files = Mapping[str, Tensors]
"""File name to the tensors in it."""


def by_layer(tensors: Tensors, kind: str) -> Tensors:
    """Return the tensors of a file that are named ``<layer>.<kind>``, by layer."""
    ending = f".{kind}"
    return {key.removesuffix(ending): t for key, t in tensors.items() if key.endswith(ending)}


def with_kind(own: Tensors, kind: str) -> Tensors:
    """Return tensors by layer as a file has them: named ``<layer>.<kind>``."""
    return {f"{layer}.{kind}": tensor for layer, tensor in own.items()}


@dataclass(frozen=True)
class MethodFile:
    """A safetensors file that a method leaves with every task.

    Attributes:
        name: Its name without the ending: ``basis``.
        made_by: The step that writes it: ``train`` or ``build``.
        needed: Of which tasks later steps read it: of ``all``, or of the ``newest`` only, so that
            ``storage.keep=latest`` removes the older ones.
        read_by: Steps that read that of the task before, as of ``MemoryHooks.reads``; a method that
            reads it in some cases only says so there.
        of_task: Whether its numbers serve the task that it was left with alone, as masks or scales
            of single tasks do.
        holds_images: Whether training images are in it: its tensors of type uint8.
        orthonormal: Last parts of the names of its tensors whose columns are orthonormal.
        symmetric: Last parts of the names of its tensors that are symmetric.
    """

    name: str
    made_by: Literal["train", "build"]
    needed: Literal["all", "newest"]
    read_by: tuple[str, ...] = ()
    of_task: bool = False
    holds_images: bool = False
    orthonormal: tuple[str, ...] = ()
    symmetric: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recomposition:
    """How the adapted weights after a task follow from those before it and from files.

    Attributes:
        before: Files of the task before that are read.
        own: Files of the task itself.
        step: Maps the matrices before, ``[out, d]`` by layer, the first files and the second to
            the matrices after, to the bit.
    """

    before: tuple[str, ...]
    own: tuple[str, ...]
    step: Callable[[Tensors, Files, Files], Tensors]


@dataclass(frozen=True)
class UpdateBound:
    """What bounds the change ||x^T dW|| of a layer's output on an earlier input x.

    Attributes:
        tau: Threshold, in the units of the inputs' singular values.
        norm: ||V||_2.
    """

    tau: float
    norm: float

    @property
    def value(self) -> float:
        """The bound tau ||V||_2 (NESS 2026, Eq. 8)."""
        return self.tau * self.norm


@dataclass(frozen=True)
class RelativeChange:
    """How far the update of a task moved a layer's outputs on earlier inputs.

    Attributes:
        rho: Root-mean-square relative change, a fraction; infinite where outputs were all zero.
        budget: The largest that one earlier task, or all together, may see; ``None`` without one.
        is_pooled: Whether the groups of a convolution share a covariance: rho is that of groups
            which all see the inputs of all, then.
    """

    rho: float
    budget: float | None = None
    is_pooled: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return plain values; ``rho`` is ``None`` if infinite, what does not apply is left out."""
        found: dict[str, Any] = {"rho": self.rho if math.isfinite(self.rho) else None}
        if self.budget is not None:
            found["budget"] = self.budget
        return {**found, "pooled": True} if self.is_pooled else found


@dataclass(frozen=True)
class LayerSpectrum:
    """The spectrum of a layer's inputs as a file holds it.

    Attributes:
        sigma: Singular values, ``[d]`` float64, ascending.
        tau: Threshold among them.
        rank: Directions that the next task may learn in.
    """

    sigma: torch.Tensor
    tau: float
    rank: int
