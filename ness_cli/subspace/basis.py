"""What a threshold leaves of a layer's directions, stored by whichever side is thinner.

Every direction u_i of a layer's inputs has a scale s_i in [0, 1]: 1 if it is open, 0 if it is
closed, in between if it is slowed. The next task learns W = W_prev + (S V)^T with
S = sum s_i u_i u_i^T. Two sets of columns give the same S:

    U, those with s > 0:    S = U diag(s) U^T,            V = U^T S^-1 D^T,    [r, out]
    Q, those with s < 1:    S = I - Q diag(1 - s) Q^T,    V = S^-1 D^T,        [d, out]

with D = W - W_prev. They allow the same updates; the second V is U times the first, so their
singular values are the same, and what is said of ||V||_2 holds for both. In the second form V has
no component along closed directions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from ness_cli.subspace.projection import Projector
from ness_cli.subspace.spectrum import Spectrum

_SLOWEST = 1e-4  # dividing by less, to recover V, would divide noise


@dataclass(frozen=True)
class SubspaceBasis(ABC):
    """The fixed directions that the updates of the next task are made of (NESS 2026, Eq. 5).

    Attributes:
        columns: Orthonormal directions, ``[d, k]`` float32, ascending sigma.
        sigma: The whole spectrum, ``[d]`` float64, ascending.
        tau: Threshold, in the units of sigma.
        scale: How far a step along each column counts, ``[k]`` float32 in [0, 1].
    """

    columns: torch.Tensor
    sigma: torch.Tensor
    tau: float
    scale: torch.Tensor

    letter: ClassVar[str]

    @property
    def dim(self) -> int:
        """Width ``d`` of an input row."""
        return len(self.sigma)

    @property
    @abstractmethod
    def scales(self) -> torch.Tensor:
        """The scale of every direction, ``[d]`` float32 in [0, 1], in the order of sigma."""

    @property
    def rank(self) -> int:
        """Number of directions ``r`` that are free to learn in, slowed ones included."""
        return int((self.scales > 0).sum())

    @property
    def energy(self) -> float:
        """Share of the inputs' energy that updates can see, ||Sigma S||^2 / ||Sigma||^2.

        A fraction; 0 for inputs that are zero.
        """
        energy = self.sigma.square()
        total = float(energy.sum())
        return float((energy * self.scales.double().square()).sum()) / total if total > 0 else 0.0

    @abstractmethod
    def projector(self, device: torch.device) -> Projector:
        """Return G -> G S^2, what a gradient ``[out, d]`` becomes, on a device."""

    @abstractmethod
    def coefficients(self, change: torch.Tensor) -> torch.Tensor:
        """Return V with (S V)^T = the part of a weight change that S allows.

        Args:
            change: D = W - W_prev, ``[out, d]``, on any device.

        Returns:
            V, ``[r, out]`` or ``[d, out]`` float32 on the CPU; made in float64 and rounded once.
        """

    @abstractmethod
    def recompose(self, previous: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return W = W_prev + (S V)^T (NESS 2026, Eq. 6).

        Args:
            previous: W_prev, ``[out, d]`` float32, on any device.
            v: V as ``coefficients`` makes it, float32.

        Returns:
            ``[out, d]`` float32 on the CPU, where every device gets the same bits; the sum is made
            in float64 and rounded once, so that whoever repeats it from the files gets them too.
        """

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors of its file, by their names without the layer."""
        found = {
            self.letter: self.columns,
            "sigma": self.sigma,
            "tau": torch.tensor(self.tau, dtype=torch.float64),
        }
        return found if bool((self.scale == 1).all()) else {**found, "scale": self.scale}


class OpenBasis(SubspaceBasis):
    """U, the open and slowed directions with their scale; V has a row for each of them."""

    letter = "U"

    @property
    def scales(self) -> torch.Tensor:
        """The scale of every direction, ``[d]``: those that are not in U are closed."""
        return torch.cat([self.scale, self.scale.new_zeros(self.dim - len(self.scale))])

    @property
    def scaled(self) -> torch.Tensor:
        """U S, ``[d, r]`` float32: what V is multiplied with."""
        return self.columns * self.scale

    def projector(self, device: torch.device) -> Projector:
        """Return G -> G U S^2 U^T; where nothing is closed, what slowed directions take off G."""
        slowed = self.scale < 1
        if self.columns.shape[1] == self.dim and int(slowed.sum()) < self.dim:
            thinner = self.columns[:, slowed].contiguous().to(device)
            return Projector.off(thinner, (1 - self.scale[slowed].square()).to(device))
        return Projector(self.columns.to(device), self.scale.square().to(device))

    @torch.no_grad()
    def coefficients(self, change: torch.Tensor) -> torch.Tensor:
        """Return V = S^-1 U^T D^T, ``[r, out]``."""
        inside = self.columns.double().T @ change.cpu().double().T
        return (inside / self.scale.double()[:, None]).float().contiguous()

    @torch.no_grad()
    def recompose(self, previous: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return W = W_prev + (U S V)^T."""
        columns = self.columns.double() * self.scale.double()
        return (previous.cpu().double() + (columns @ v.cpu().double()).T).float()


class ClosedBasis(SubspaceBasis):
    """Q, the slowed and closed directions with their scale; V is as large as the weight."""

    letter = "Q"

    @property
    def scales(self) -> torch.Tensor:
        """The scale of every direction, ``[d]``: those that are not in Q are open."""
        return torch.cat([self.scale.new_ones(self.dim - len(self.scale)), self.scale])

    def projector(self, device: torch.device) -> Projector:
        """Return G -> G - (G Q) diag(1 - s^2) Q^T."""
        return Projector.off(self.columns.to(device), (1 - self.scale.square()).to(device))

    @torch.no_grad()
    def coefficients(self, change: torch.Tensor) -> torch.Tensor:
        """Return V = D^T + Q diag(g) Q^T D^T, g = 1/s - 1 of slowed directions, -1 of closed."""
        columns, scale = self.columns.double(), self.scale.double()
        gain = torch.where(scale > 0, 1 / scale, 0) - 1
        moved = change.cpu().double().T
        return (moved + columns @ (gain[:, None] * (columns.T @ moved))).float().contiguous()

    @torch.no_grad()
    def recompose(self, previous: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return W = W_prev + (V - Q diag(1 - s) Q^T V)^T."""
        columns, v = self.columns.double(), v.cpu().double()
        taken = columns @ ((1 - self.scale.double())[:, None] * (columns.T @ v))
        return (previous.cpu().double() + (v - taken).T).float()


def null_basis(spectrum: Spectrum, tau: float, *, keep_open: bool = False) -> SubspaceBasis:
    """Return the basis of the directions with sigma <= tau: the hard cut of every published run.

    Args:
        spectrum: The layer's directions.
        tau: Threshold, in the units of sigma.
        keep_open: Store the open side even if the other one is thinner.
    """
    return _of_scales(spectrum, tau, (spectrum.sigma <= tau).float(), keep_open)


def bounded_basis(
    spectrum: Spectrum, tau: float, gamma: float, *, keep_open: bool = False
) -> SubspaceBasis:
    """Return every direction at its own pace: S = 1 up to tau, (tau / sigma)^gamma above.

    With gamma = 1 this is the largest diagonal S with entries of at most 1 that keeps the bound of
    NESS 2026, Eq. 8: ||x^T U S V|| <= ||Sigma S||_2 ||V||_2 <= tau ||V||_2. As gamma grows it
    becomes the hard cut. Directions slowed below 1e-4 are closed.

    Args:
        spectrum: The layer's directions.
        tau: Threshold, in the units of sigma.
        gamma: Exponent, at least 1.
        keep_open: Store the open side even if the other one is thinner.
    """
    sigma = spectrum.sigma
    scales = torch.where(sigma <= tau, torch.ones_like(sigma), (tau / sigma) ** gamma)
    return _of_scales(spectrum, tau, scales.float(), keep_open)


def conceptor_basis(spectrum: Spectrum, tau: float, *, keep_open: bool = False) -> SubspaceBasis:
    """Return every direction at the pace of a conceptor: S^2 = 1 / (1 + (sigma / tau)^2).

    A step G becomes G (I - R (R + a^-2 I)^-1) with R = X^T X / n and tau^2 = n / a^2 (CODE-CL,
    Apolinario et al., ICCV 2025). Sigma S stays below tau, so the bound of NESS 2026, Eq. 8 holds.
    Directions slowed below 1e-4 are closed.
    """
    sigma = spectrum.sigma
    scales = torch.where(sigma == 0, 1.0, tau / torch.hypot(sigma, torch.full_like(sigma, tau)))
    return _of_scales(spectrum, tau, scales.float(), keep_open)


def open_basis(spectrum: Spectrum, *, keep_open: bool = False) -> SubspaceBasis:
    """Return every direction as it is: no filter. The threshold is the largest singular value."""
    largest = float(spectrum.sigma[-1]) if len(spectrum.sigma) else 0.0
    scales = torch.ones(len(spectrum.sigma))
    return _of_scales(spectrum, largest, scales, keep_open)


def filtered_basis(
    spectrum: Spectrum, tau: float, scaling: str, *, gamma: float, keep_open: bool
) -> SubspaceBasis:
    """Return the basis that a filter leaves: ``hard``, ``bounded``, ``conceptor`` or ``none``.

    Args:
        spectrum: The layer's directions.
        tau: Threshold, in the units of sigma; ``none`` has its own.
        scaling: The filter.
        gamma: Exponent of ``bounded``.
        keep_open: Store the open side even if the other one is thinner.
    """
    match scaling:
        case "bounded":
            return bounded_basis(spectrum, tau, gamma, keep_open=keep_open)
        case "conceptor":
            return conceptor_basis(spectrum, tau, keep_open=keep_open)
        case "none":
            return open_basis(spectrum, keep_open=keep_open)
        case _:
            return null_basis(spectrum, tau, keep_open=keep_open)


def _of_scales(
    spectrum: Spectrum, tau: float, scales: torch.Tensor, keep_open: bool
) -> SubspaceBasis:
    """Return the basis that stores fewer columns; scales ``[d]`` float32 do not ascend."""
    scales = torch.where(scales >= _SLOWEST, scales, 0)
    dim, num_open = len(scales), int((scales > 0).sum())
    num_whole = int((scales == 1).sum())
    if keep_open or num_open <= dim - num_whole:
        columns = spectrum.between(0, num_open).float().contiguous()
        return OpenBasis(columns, spectrum.sigma, tau, scales[:num_open].clone())
    columns = spectrum.between(num_whole, dim).float().contiguous()
    return ClosedBasis(columns, spectrum.sigma, tau, scales[num_whole:].clone())


def read_bases(tensors: Mapping[str, torch.Tensor]) -> dict[str, SubspaceBasis]:
    """Return the bases in a file, by layer."""
    found: dict[str, SubspaceBasis] = {}
    for key, columns in tensors.items():
        layer, _, letter = key.rpartition(".")
        for kind in (OpenBasis, ClosedBasis):
            if letter == kind.letter:
                scale = tensors.get(f"{layer}.scale", torch.ones(columns.shape[1]))
                own = (tensors[f"{layer}.sigma"], float(tensors[f"{layer}.tau"]), scale)
                found[layer] = kind(columns, *own)
    return found


def basis_bytes(dim: int, num_columns: int) -> int:
    """Return the bytes that a basis of so many columns has in a file, with its spectrum."""
    return 4 * dim * num_columns + 4 * num_columns + 8 * dim + 8
