"""Which of the data sets in the idx format a file of labels belongs to.

They have equal names and sizes, and for the unpacked files of KMNIST no checksum is published. What
is published tells them apart: MNIST has its own number of images in every class, the other two have
equally many, and the first labels of Fashion-MNIST are printed in many a tutorial.
"""

from __future__ import annotations

import torch

# By number of images: those of training, those of test.
_MNIST_COUNTS = {
    60000: [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    10000: [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
}
_FIRST_OF_FASHION = {
    60000: [9, 0, 0, 3, 0, 2, 7, 2, 5, 5],
    10000: [9, 2, 1, 1, 6, 1, 4, 6, 5, 7],
}


def owner_of(labels: torch.Tensor) -> str | None:
    """Return the title of the data set that labels are those of, ``None`` if of neither.

    Args:
        labels: uint8 ``[n]``.
    """
    num = len(labels)
    if num not in _MNIST_COUNTS:
        return None
    counts = labels.bincount().tolist()
    if counts == _MNIST_COUNTS[num]:
        return "MNIST"
    if counts != [num // 10] * 10:
        return None
    first = _FIRST_OF_FASHION[num]
    return "Fashion-MNIST" if labels[: len(first)].tolist() == first else "KMNIST"
