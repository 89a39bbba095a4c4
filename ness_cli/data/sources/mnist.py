"""MNIST: handwritten digits (LeCun, Cortes, Burges)."""

from __future__ import annotations

from ness_cli.data.idx import IdxFiles

_FILES = IdxFiles(
    title="MNIST",
    base_url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    folder="MNIST",
    classes=tuple(str(digit) for digit in range(10)),
)
content_hash = _FILES.content_hash
opened = _FILES.opened
