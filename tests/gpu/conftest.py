"""What all tests on a device share; without a CUDA device they are skipped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(scope="session")
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """Six classes, for three tasks, large enough for every network."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 14), ("test", 4)):
        for label, name in enumerate("abcdef"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                pixels[label * 5 : label * 5 + 5] += 100
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder
