"""The budget that chooses itself (``budget=auto``): a share of what is left, no more than helps.

Updates that each move old outputs by rho_s, at random, move them together by sqrt(sum rho_s^2).
Let that stay below R = 0.3 however many tasks come: what a layer's updates have used up of R^2 is
known from the covariances, and the next one may use a ninth of the rest,

    b = sqrt((R^2 - sum rho_s^2) / 9),    so that task 2 starts from b = 0.1.

Once a task is learned its update is shrunk within the smallest of the budgets b, b / sqrt(2),
b / 2, b / (2 sqrt(2)), b / 4 that the task's own validation images do not tell from b: the mean of
the paired differences of their losses is at most one standard error. What a task does not need is
left to those after it. Nothing depends on the number of tasks, and no earlier data is read.

The rule is ours; one standard error as in Breiman et al., "Classification and Regression Trees",
1984, section 3.4.3, here of paired differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

TOTAL = 0.3
"""R, the rms relative change that all updates of a layer together stay below."""
SHARES = 9
"""Into how many parts what is left is divided; the next update gets one."""
FRACTIONS = (0.25, 8**-0.5, 0.5, 0.5**0.5)
"""What is tried of a budget, besides all of it."""


def allowance(spent: float) -> float:
    """Return the budget b of the next update of a layer.

    Args:
        spent: Sum of the squares of what its updates so far have used of their budgets, in rho.
    """
    return math.sqrt(max(0.0, TOTAL**2 - spent) / SHARES)


def smallest_sufficient(losses: Callable[[float], torch.Tensor]) -> float:
    """Return the smallest fraction of a budget that is not clearly worse than all of it.

    Args:
        losses: Gives the loss of every validation image, ``[n]``, with the update within a fraction
            of the budget; asked with 1 first.

    Returns:
        One of ``FRACTIONS``, or 1; 1 also if losses are not finite, or there is but one image.
    """
    whole = losses(1.0).double()
    if len(whole) < 2:
        return 1.0
    for fraction in FRACTIONS:
        difference = losses(fraction).double() - whole
        error = difference.std() / math.sqrt(len(difference))
        if difference.mean() <= error:
            return fraction
    return 1.0
