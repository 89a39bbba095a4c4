"""A projector that closes row after row: P = (I + sum of r r^T / alpha)^-1, from I on.

Every row r of inputs makes P <- P - (P r)(P r)^T / (alpha + r^T P r), as in recursive least
squares. Where alpha is small P tends to the projector off the span of all rows. Rows R that share
alpha are taken in at once (the same by the matrix inversion lemma):

    P <- P - P R^T (alpha I + R P R^T)^-1 R P.

Source: Zeng, Chen, Cui, Yu, "Continual learning of context-dependent processing in neural
networks", Nature Machine Intelligence 2019.
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def close_(p: torch.Tensor, rows: torch.Tensor, alpha: float) -> None:
    """Take rows into P, in place (OWM 2019, Eq. 1, for all rows at once).

    O(n d^2 + n^2 d + n^3) time.

    Args:
        p: P, ``[d, d]`` float64, symmetric.
        rows: R, ``[n, d]`` float64.
        alpha: Of all rows, positive.
    """
    product = p @ rows.T
    inner = rows @ product
    inner.diagonal().add_(alpha)
    # Without a check: what is not finite comes out as NaN, and training names the layer.
    factor = torch.linalg.cholesky_ex(inner).L
    half = torch.linalg.solve_triangular(factor, product.T, upper=False)
    p.addmm_(half.T, half, alpha=-1)


def published_decays(
    modules: list[nn.Linear | nn.Conv2d], *, has_shared_head: bool = False
) -> tuple[float, ...]:
    """Return by how many powers of ten alpha of every layer falls, as the authors have it.

    Args:
        modules: The layers, in order.
        has_shared_head: Whether the last of them is a head that tasks share.
    """
    is_convolution = [isinstance(module, nn.Conv2d) for module in modules]
    if not any(is_convolution):
        return (0.0,) * len(modules)
    first_linear = is_convolution.index(False) if not all(is_convolution) else len(modules)
    decays = tuple(
        5.0 if is_conv else 4.0 if number == first_linear else 2.0
        for number, is_conv in enumerate(is_convolution)
    )
    return (*decays[:-1], 1.0) if has_shared_head else decays
