"""The bounds that other tests rely on: wide enough for any order, narrow enough to see a fault."""

from __future__ import annotations

import pytest
import torch
from rounding import assert_same_gram, assert_same_product, gamma


def _rows(n=2000, d=7):
    return torch.randn(n, d, dtype=torch.float64) * torch.logspace(-6, 2, d, dtype=torch.float64)


@pytest.mark.parametrize("num_parts", [1, 3, 2000])
def test_a_gram_matrix_may_be_summed_in_any_order(num_parts):
    x = _rows()
    parts = x[torch.randperm(len(x))].chunk(num_parts)
    assert_same_gram(sum(part.T @ part for part in parts), x.T @ x, len(x))


@pytest.mark.parametrize("entry", [(0, 0), (3, 4), (6, 0)])
def test_a_row_that_counts_twice_is_seen_in_every_entry(entry):
    x = _rows()
    gram = x.T @ x
    wrong = gram.clone()
    wrong[entry] += x[0][entry[0]] * x[0][entry[1]]
    with pytest.raises(AssertionError, match="more than rounding can"):
        assert_same_gram(wrong, gram, len(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_product_may_be_summed_in_any_order_and_not_be_another(dtype):
    a, b = torch.randn(4, 300, dtype=dtype), torch.randn(300, 3, dtype=dtype)
    order = torch.randperm(300)
    found, exact = a[:, order] @ b[order], a.double() @ b.double()
    assert_same_product(found, exact, a, b)
    with pytest.raises(AssertionError, match="more than rounding can"):
        assert_same_product(found * (1 + 1000 * gamma(300, dtype)), exact, a, b)


def test_the_error_of_many_roundings_is_a_little_more_than_their_sum():
    assert gamma(1) == pytest.approx(2.0**-53)
    assert 1000 * 2.0**-53 < gamma(1000) < 1001 * 2.0**-53
