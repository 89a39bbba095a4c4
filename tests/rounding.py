"""How far results of the same mathematics may lie apart on any machine, derived from rounding.

Sums are made in another order on another CPU, with other threads or in other processes; a tolerance
that was read off one machine holds there only.
"""

from __future__ import annotations

import torch


def gamma(num_operations: int, dtype: torch.dtype = torch.float64) -> float:
    """Return gamma_n = n u / (1 - n u), the relative error of n roundings, u half of epsilon.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., Lemma 3.1.
    """
    error = num_operations * torch.finfo(dtype).eps / 2
    return error / (1 - error)


def assert_same_product(
    found: torch.Tensor,
    expected: torch.Tensor,
    left: torch.Tensor,
    right: torch.Tensor,
    *,
    times: int = 1,
) -> None:
    """Assert that two float results of ``left @ right`` differ by rounding alone.

    |fl(AB) - AB| <= gamma_n |A| |B| elementwise in any order of summation (Higham, Eq. 3.13), for
    each of the two.

    Args:
        found: One result, ``[m, k]``.
        expected: The other; of the two types the coarser one counts.
        left: A, ``[m, n]``.
        right: B, ``[n, k]``.
        times: How often the bound is allowed, where further roundings of that size follow.
    """
    coarse = max((found.dtype, expected.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    bound = 2 * times * gamma(left.shape[1], coarse) * (left.double().abs() @ right.double().abs())
    excess = (found.double() - expected.double()).abs() - bound
    assert (excess <= 0).all(), f"differs by {float(excess.max()):.3g} more than rounding can"


def assert_same_gram(found: torch.Tensor, expected: torch.Tensor, num_rows: int) -> None:
    """Assert that two float64 sums X^T X over the same rows differ by rounding alone.

    As above, |fl(X^T X) - X^T X| <= gamma_n |X|^T |X|, and by Cauchy-Schwarz an entry of |X|^T |X|
    is at most sqrt(c_ii c_jj), which the diagonal of the sum itself gives.

    Args:
        found: One sum, ``[d, d]`` float64, made in any order, in any number of parts.
        expected: The other.
        num_rows: n, rows summed.
    """
    norms = expected.diagonal().sqrt()
    bound = 2 * gamma(2 * num_rows) * torch.outer(norms, norms)
    excess = (found - expected).abs() - bound
    assert (excess <= 0).all(), f"differs by {float(excess.max()):.3g} more than rounding can"
