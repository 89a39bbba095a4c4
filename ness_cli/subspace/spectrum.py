"""Spectrum of a layer's inputs, and the basis that a threshold leaves of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ness_cli.errors import NumericalError

_SLOWEST = 1e-4  # dividing by less, to recover V, would divide noise


@dataclass(frozen=True)
class Spectrum:
    """Principal directions of a layer's inputs, the least used first.

    Attributes:
        sigma: Singular values of the inputs, ``[d]`` float64, ascending, never negative.
        vectors: Directions as columns, ``[d, d]`` float64, orthonormal.
    """

    sigma: torch.Tensor
    vectors: torch.Tensor


@dataclass(frozen=True)
class SubspaceBasis:
    """The fixed basis U that the next task learns in (NESS 2026, Eq. 5).

    Attributes:
        basis: The open directions, ``[d, r]`` float32, orthonormal, ascending sigma: those with
            sigma <= tau, and with bounded scaling those above that are not slowed to a halt.
        sigma: The whole spectrum, ``[d]`` float64, ascending.
        tau: Threshold, in the units of sigma.
        scale: How far a step along each direction counts, ``[r]`` float32 in (0, 1]; ones when
            ``None``.
    """

    basis: torch.Tensor
    sigma: torch.Tensor
    tau: float
    scale: torch.Tensor | None = None

    @property
    def dim(self) -> int:
        """Width ``d`` of an input row."""
        return len(self.sigma)

    @property
    def rank(self) -> int:
        """Number of directions ``r`` that are free to learn in."""
        return self.basis.shape[1]

    @property
    def energy(self) -> float:
        """Share of the inputs' energy that updates can see, ||Sigma S||^2 / ||Sigma||^2.

        A fraction; 0 for inputs that are zero.
        """
        energy = self.sigma.square()
        total = float(energy.sum())
        seen = energy[: self.rank]
        if self.scale is not None:
            seen = seen * self.scale.double().square()
        return float(seen.sum()) / total if total > 0 else 0.0


@torch.no_grad()
def spectrum(covariance: torch.Tensor, *, layer: str) -> Spectrum:
    """Decompose a covariance C = U Sigma^2 U^T (NESS 2026, Eq. 4) in float64.

    Eigenvalues that rounding made negative are set to zero: rank-deficient inputs have an exact
    null space, which is the best place to learn. O(d^3) time.

    Args:
        covariance: Uncentred second moment, ``[d, d]``.
        layer: Name of the layer, for the error message.

    Raises:
        NumericalError: If C holds NaN or infinity, or the decomposition does not converge.
    """
    matrix = covariance.double()
    if not torch.isfinite(matrix).all():
        raise NumericalError(
            f"layer {layer}: the covariance of its inputs holds NaN or infinite values",
            "lower train.lr, or check the images",
        )
    try:
        eigenvalues, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    except RuntimeError as error:
        raise NumericalError(f"layer {layer}: eigendecomposition failed: {error}") from error
    return Spectrum(eigenvalues.clamp(min=0).sqrt(), vectors)


def null_basis(spectrum: Spectrum, tau: float) -> SubspaceBasis:
    """Return the directions with sigma <= tau: the hard cut of every published run."""
    rank = int((spectrum.sigma <= tau).sum())
    basis = spectrum.vectors[:, :rank].float().contiguous()
    return SubspaceBasis(basis, spectrum.sigma, tau)


def bounded_basis(spectrum: Spectrum, tau: float, gamma: float) -> SubspaceBasis:
    """Return every direction at its own pace: S = 1 up to tau, (tau / sigma)^gamma above.

    With gamma = 1 this is the largest diagonal S with entries of at most 1 that keeps the bound of
    NESS 2026, Eq. 8: ||x^T U S V|| <= ||Sigma S||_2 ||V||_2 <= tau ||V||_2. As gamma grows it
    becomes the hard cut. Directions slowed below 1e-4 are closed.
    """
    sigma = spectrum.sigma
    scale = torch.where(sigma <= tau, torch.ones_like(sigma), (tau / sigma) ** gamma).float()
    rank = int((scale >= _SLOWEST).sum())
    basis = spectrum.vectors[:, :rank].float().contiguous()
    return SubspaceBasis(basis, sigma, tau, scale[:rank].contiguous())


def conceptor_basis(spectrum: Spectrum, tau: float) -> SubspaceBasis:
    """Return every direction at the pace of a conceptor: S^2 = 1 / (1 + (sigma / tau)^2).

    A step G becomes G (I - R (R + a^-2 I)^-1) with R = X^T X / n and tau^2 = n / a^2 (CODE-CL,
    Apolinario et al., ICCV 2025). Sigma S stays below tau, so the bound of NESS 2026, Eq. 8 holds.
    Directions slowed below 1e-4 are closed.
    """
    sigma = spectrum.sigma
    scale = torch.where(sigma == 0, 1.0, tau / torch.hypot(sigma, torch.full_like(sigma, tau)))
    scale = scale.float()
    rank = int((scale >= _SLOWEST).sum())
    basis = spectrum.vectors[:, :rank].float().contiguous()
    return SubspaceBasis(basis, sigma, tau, scale[:rank].contiguous())


def open_basis(spectrum: Spectrum) -> SubspaceBasis:
    """Return every direction as it is: no filter. The threshold is the largest singular value."""
    largest = float(spectrum.sigma[-1]) if len(spectrum.sigma) else 0.0
    return SubspaceBasis(spectrum.vectors.float().contiguous(), spectrum.sigma, largest)
