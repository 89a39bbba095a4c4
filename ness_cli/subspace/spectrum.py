"""Spectrum of a layer's inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ness_cli.errors import NumericalError


@dataclass(frozen=True)
class Spectrum:
    """Principal directions of a layer's inputs, the least used first.

    Attributes:
        sigma: Singular values of the inputs, ``[d]`` float64, ascending, never negative.
        between: Returns the directions from one position to another as columns, ``[d, n]``
            float64, orthonormal. Only those that are asked for need to be computed.
    """

    sigma: torch.Tensor
    between: Callable[[int, int], torch.Tensor]

    @property
    def vectors(self) -> torch.Tensor:
        """All directions as columns, ``[d, d]``."""
        return self.between(0, len(self.sigma))


@torch.no_grad()
def spectrum(
    covariance: torch.Tensor, *, layer: str, device: torch.device | None = None
) -> Spectrum:
    """Decompose a covariance C = U Sigma^2 U^T (NESS 2026, Eq. 4) in float64.

    Eigenvalues that rounding made negative are set to zero: rank-deficient inputs have an exact
    null space, which is the best place to learn. O(d^3) time.

    Args:
        covariance: Uncentred second moment, ``[d, d]``.
        layer: Name of the layer, for the error message.
        device: A GPU decomposes it itself; on any other device the CPU does.

    Returns:
        The spectrum, on the CPU.

    Raises:
        NumericalError: If C holds NaN or infinity, or the decomposition does not converge.
    """
    matrix = checked(covariance, layer=layer)
    if device is not None and device.type == "cuda":
        matrix = matrix.to(device)
    try:
        eigenvalues, vectors = (found.cpu() for found in torch.linalg.eigh(matrix))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise NumericalError(f"layer {layer}: eigendecomposition failed: {error}") from error
    return Spectrum(eigenvalues.clamp(min=0).sqrt(), lambda start, stop: vectors[:, start:stop])


def checked(covariance: torch.Tensor, *, layer: str) -> torch.Tensor:
    """Return a covariance exactly symmetric, float64 on the CPU.

    Raises:
        NumericalError: If it holds NaN or infinity, naming the layer.
    """
    matrix = covariance.cpu().double()
    if not torch.isfinite(matrix).all():
        raise NumericalError(
            f"layer {layer}: the covariance of its inputs holds NaN or infinite values",
            "lower train.lr, or check the images",
        )
    return (matrix + matrix.T) / 2
