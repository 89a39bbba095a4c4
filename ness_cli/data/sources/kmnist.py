"""KMNIST: handwritten kana of old Japanese books (Clanuwat et al. 2018)."""

from __future__ import annotations

from ness_cli.data.idx import IdxFiles

_FILES = IdxFiles(
    title="KMNIST",
    base_url="http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    folder="KMNIST",
    classes=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
)
content_hash = _FILES.content_hash
opened = _FILES.opened
