"""Protected directions: orthonormal columns M of a layer's input space, grown task by task.

They are found in Gram matrices: G = X^T X of the inputs X of a task has their singular vectors, and
||m^T X||^2 = m^T G m is the energy that they have along a direction m. Gradients in the place of
inputs have directions of their own in the same way.

Source: Saha, Garg, Roy, "Gradient Projection Memory for Continual Learning", ICLR 2021; what a task
uses of old and new directions together is that of Lin, Yang, Fan, Zhang, "TRGP", ICLR 2022.
"""

from __future__ import annotations

import torch

from ness_cli.subspace.spectrum import Spectrum

_UNUSED = 1e-12
"""Share of the energy up to which inputs do not use a direction: rounding. Such directions need no
protection, whatever the threshold says."""

_OVERLAP = 1e-4
"""Largest product of a protected direction and one that completes them: more is not rounding."""


def captured(gram: torch.Tensor, basis: torch.Tensor) -> float:
    """Return the share of the energy of X inside span(basis), a fraction.

    Args:
        gram: X^T X, ``[d, d]`` float64.
        basis: Orthonormal columns, ``[d, k]``.
    """
    total = float(gram.trace())
    m = basis.double()
    return float(torch.sum(m * (gram @ m))) / total if total > 0 else 1.0


def room(gram: torch.Tensor, basis: torch.Tensor) -> tuple[int, float]:
    """Return how many directions lie outside span(basis), and the share of energy there.

    Args:
        gram: X^T X, ``[d, d]`` float64.
        basis: Orthonormal columns, ``[d, k]``.
    """
    return len(gram) - basis.shape[1], max(0.0, 1 - captured(gram, basis))


@torch.no_grad()
def separate(gram: torch.Tensor, memory: torch.Tensor | None) -> torch.Tensor:
    """Return a matrix whose spectrum has the new inputs below and the protected directions above.

    (I - M M^T) G (I - M M^T) + c M M^T: with c above all other eigenvalues the last k eigenvectors
    span M, the others complete it, in the order of the energy that the inputs have there.

    Args:
        gram: Gram matrix G = X^T X of the new inputs, ``[d, d]`` float64.
        memory: M, protected directions so far, ``[d, k]``, or ``None`` after the first task.
    """
    if memory is None or memory.shape[1] == 0:
        return gram
    m = memory.double()
    above = 2 * float(gram.trace()) or 1.0
    product = gram @ m
    inner = m.T @ product + above * torch.eye(m.shape[1], dtype=torch.float64)
    return gram - product @ m.T - m @ product.T + m @ inner @ m.T


@torch.no_grad()
def extend(
    gram: torch.Tensor,
    memory: torch.Tensor | None,
    found: Spectrum,
    theta: float,
    *,
    first_rank: str,
) -> torch.Tensor:
    """Return the memory with the leading directions of new inputs added (GPM 2021, Eqs. 5-9).

    Args:
        gram: Gram matrix X^T X of the new inputs, ``[d, d]`` float64.
        memory: Protected directions so far, ``[d, k]``, or ``None`` after the first task.
        found: Spectrum of ``separate(gram, memory)``.
        theta: Share of the energy of X to be protected, a fraction.
        first_rank: For the first task ``reach`` takes the fewest directions that reach ``theta``,
            ``below`` one fewer. Later tasks always reach it.

    Returns:
        What ``grow`` returns.
    """
    dim = len(gram)
    total = float(gram.trace())
    old = torch.zeros(dim, 0) if memory is None else memory.float()
    rest = dim - old.shape[1]
    energies = found.sigma[:rest].square().flip(0)
    covered_before = captured(gram, old) if total > 0 else 1.0
    # Covered before each direction is added: a direction is needed while that is below theta.
    covered = covered_before + torch.cumsum(energies, 0) / (total if total > 0 else 1.0)
    below = int((covered < theta).sum())
    reach = 0 if covered_before >= theta else below + 1
    new = below if memory is None and first_rank == "below" else reach
    used = int((energies > _UNUSED * total).sum())
    return grow(old, found, min(new, used, rest))


def grow(memory: torch.Tensor, found: Spectrum, new: int) -> torch.Tensor:
    """Return the memory with the strongest new directions added.

    Args:
        memory: Protected directions so far, ``[d, k]`` float32.
        found: Spectrum of ``separate(gram, memory)``.
        new: How many directions are added.

    Returns:
        Orthonormal ``[d, k + new]`` float32, the old directions first, with their bits.
    """
    rest = memory.shape[0] - memory.shape[1]
    directions = found.between(rest - new, rest).flip(1).float()
    return torch.cat([memory, directions], dim=1).contiguous()


@torch.no_grad()
def completing(memory: torch.Tensor, found: Spectrum) -> torch.Tensor | None:
    """Return what completes a memory that has more than half of all directions.

    Args:
        memory: As ``grow`` returned it, ``[d, k]``.
        found: The spectrum that it grew by.

    Returns:
        Orthonormal ``[d, d - k]`` float32; ``None`` where it would be no thinner.
    """
    dim, rank = memory.shape
    if 2 * rank <= dim:
        return None
    rest, m = found.between(0, dim - rank), memory.double()
    if rest.shape[1] and float((m.T @ rest).abs().max()) > _OVERLAP:
        # Eigenvalues that are alike have no vectors of their own: asked for apart, they overlap.
        rest = torch.linalg.qr(m, mode="complete").Q[:, rank:]
    return rest.float().contiguous()


@torch.no_grad()
def strongest(
    gram: torch.Tensor, memory: torch.Tensor, found: Spectrum, theta: float
) -> tuple[torch.Tensor, int]:
    """Return the fewest directions, old and new ones together, that carry a share of the energy.

    Args:
        gram: Gram matrix X^T X of a task's inputs, ``[d, d]`` float64.
        memory: M, protected directions so far, ``[d, k]``.
        found: Spectrum of ``separate(gram, memory)``.
        theta: Share of the energy of X, a fraction.

    Returns:
        Columns of the extended memory, int64, ascending; and how many of them are new.
    """
    num_old, total = memory.shape[1], float(gram.trace())
    m = memory.double()
    of_old = torch.sum(m * (gram @ m), dim=0)
    of_new = found.sigma[: len(gram) - num_old].square().flip(0)
    energies, order = torch.cat([of_old, of_new]).sort(descending=True, stable=True)
    # What is carried before each direction is added: it is needed while that is below theta.
    before = torch.cumsum(energies, 0) - energies
    is_needed = (before < theta * total) & (energies > _UNUSED * total)
    columns = order[is_needed].sort().values
    return columns, int((columns >= num_old).sum())
