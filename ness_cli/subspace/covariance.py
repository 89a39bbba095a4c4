"""Uncentred second moments of layer inputs, all layers in one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from ness_cli.errors import NumericalError
from ness_cli.numerics import float64_device
from ness_cli.processes import current_processes
from ness_cli.subspace.layer_inputs import chunks_of_rows, observed_inputs
from ness_cli.subspace.layer_view import LayerView

_NARROWEST_BLOCK = 128


class CovarianceAccumulator:
    """Sums C = X^T X over the input rows of every layer (NESS 2026, Eq. 7; uncentred).

    Rows and sums are float64: a float32 Gram matrix loses singular values below about 5e-4 of the
    largest, which are the ones that matter here. O(rows d^2) time, one d x d matrix per layer; a
    few million numbers of unfolded patches at a time, however many images and positions there are.

    Args:
        layers: Layers whose inputs are added up, by name.
        max_images: Of every batch only this many images are added, per layer; all when absent.
        tick: Called with the work of every chunk of rows, see ``work_of_rows``, and with 0; an
            exception that it raises ends the pass.
        by_group: Keep the groups of a grouped convolution apart: C is ``[g, d, d]`` for those.
    """

    def __init__(
        self,
        layers: Mapping[str, LayerView],
        max_images: Mapping[str, int] | None = None,
        tick: Callable[[int], None] = lambda work: None,
        *,
        by_group: bool = False,
    ) -> None:
        self.layers = layers
        self.by_group = by_group
        self.max_images = max_images or {}
        self.tick = tick
        self._sums: dict[str, torch.Tensor] = {}

    def covariances(
        self,
        onto: Mapping[str, torch.Tensor] | None = None,
        maps: Mapping[str, torch.Tensor] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return C per layer, ``[d, d]`` or by group, float64, exactly symmetric, on the CPU.

        The matrices of all layers together are large, so none is copied: what is returned are the
        sums themselves where they are on the CPU, or ``onto``.

        Args:
            onto: Covariances of earlier tasks, to which these are added in place.
            maps: B by layer, ``[d, d]`` float64, where C is to be that of B x.
        """
        found = {}
        for name in self.layers:
            c = self._sum(name)
            c.copy_(torch.triu(c) + torch.triu(c, 1).mT)
            c = c.cpu()
            if maps and name in maps:
                c = maps[name] @ c @ maps[name].T
                c = (c + c.mT) / 2
            found[name] = onto[name].add_(c) if onto else c
            self.tick(0)
        return found

    def sum_over_processes(self) -> None:
        """Add up what several processes have seen, if there are several."""
        for name in self.layers:
            current_processes().sum_([self._sum(name)])

    def _sum(self, name: str) -> torch.Tensor:
        """Return the sum of a layer, where it computes; on the CPU where there is no float64."""
        if name not in self._sums:
            layer = self.layers[name]
            device = float64_device(layer.weight.device)
            groups = [layer.groups] if self.by_group and layer.groups > 1 else []
            shape = [*groups, layer.dim, layer.dim]
            self._sums[name] = torch.zeros(shape, dtype=torch.float64, device=device)
        return self._sums[name]

    @contextmanager
    def accumulate(self) -> Iterator[None]:
        """Add the inputs of every forward pass made within.

        Raises:
            NumericalError: As soon as a layer's input holds NaN or infinity, naming the layer.
        """
        with observed_inputs(self.layers, self.add):
            yield

    def add(self, name: str, x: torch.Tensor) -> None:
        """Add the rows of one layer input.

        Args:
            name: Name of the layer.
            x: Its input, ``[n, ...]`` as the layer takes it.

        Raises:
            NumericalError: If ``x`` holds NaN or infinity.
        """
        layer = self.layers[name]
        x = x.detach()[: self.max_images.get(name)]
        if not torch.isfinite(x).all():
            raise NumericalError(
                f"layer {name}: its input holds NaN or infinite values",
                "lower train.lr, or check the images",
            )
        total = self._sum(name)
        for rows in chunks_of_rows(layer, x):
            # Where there is no float64 the rows go to the CPU first.
            rows = rows.to(total.device).double()
            if total.dim() == 2:
                add_gram(total, rows)
            else:
                for own, of_group in zip(
                    total, rows.view(-1, *total.shape[:2]).unbind(1), strict=True
                ):
                    add_gram(own, of_group)
            self.tick(work_of_rows(layer, len(rows)))


def pooled(covariance: torch.Tensor) -> torch.Tensor:
    """Return C over all groups, ``[d, d]``, of one that may keep them apart."""
    return covariance.sum(dim=0) if covariance.dim() == 3 else covariance


def work_of_rows(layer: LayerView, num_rows: int) -> int:
    """Return the multiply-adds of computing a layer's outputs on rows and of adding them to C."""
    return num_rows * layer.dim * (layer.dim + layer.out)


class PassProgress:
    """Progress of a pass over images: chunk by chunk here, by images where others compute.

    Args:
        advance: Called with the work done.
        per_image: Work of an image in all layers.
    """

    def __init__(self, advance: Callable[[int], None], per_image: int) -> None:
        self._advance, self._per_image = advance, per_image
        self._reported = 0

    def chunk(self, work: int) -> None:
        """Take notice of the work of a chunk."""
        self._reported += work
        self._advance(work)

    def images(self, count: int) -> None:
        """Take notice that these images are done: report what no chunk has reported."""
        self._advance(count * self._per_image - self._reported)
        self._reported = 0


def add_gram(total: torch.Tensor, rows: torch.Tensor) -> None:
    """Add rows^T rows to the upper triangle of ``total``; what lies below it is undefined.

    The product is symmetric, so block rows need no columns left of their own: 5/8 of the products
    of a full one with four blocks.

    Args:
        total: ``[d, d]``.
        rows: ``[n, d]`` in the same dtype.
    """
    dim = rows.shape[1]
    block = max(_NARROWEST_BLOCK, -(-dim // 4))
    for start in range(0, dim, block):
        own = rows[:, start : start + block]
        total[start : start + block, start:].addmm_(own.T, rows[:, start:])
