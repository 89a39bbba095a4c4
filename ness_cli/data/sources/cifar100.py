"""CIFAR-100: 60 000 colour images of 32 x 32 pixels in 100 classes (Krizhevsky 2009)."""

from __future__ import annotations

from ness_cli.data.formats.cifar import URL, Archive
from ness_cli.data.formats.download import PublicFile

_NAME = "cifar-100-python.tar.gz"
_MD5 = "eb9058c3a382ffc7106e4002c42a8d85"
_ARCHIVE = Archive(
    title="CIFAR-100",
    file=PublicFile(_NAME, URL + _NAME, _MD5, unpacked="cifar-100-python"),
    train=("train",),
    test="test",
    meta=("meta", "fine_label_names"),
    labels="fine_labels",
)
content_hash = _ARCHIVE.content_hash
opened = _ARCHIVE.opened
