"""CIFAR-10: 60 000 colour images of 32 x 32 pixels in 10 classes (Krizhevsky 2009)."""

from __future__ import annotations

from ness_cli.data.formats.cifar import URL, Archive
from ness_cli.data.formats.download import PublicFile

_NAME = "cifar-10-python.tar.gz"
_MD5 = "c58f30108f718f92721af3b95e74349a"
_ARCHIVE = Archive(
    title="CIFAR-10",
    file=PublicFile(_NAME, URL + _NAME, _MD5, unpacked="cifar-10-batches-py"),
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    meta=("batches.meta", "label_names"),
    labels="labels",
)
content_hash = _ARCHIVE.content_hash
opened = _ARCHIVE.opened
