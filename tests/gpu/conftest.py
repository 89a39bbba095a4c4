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
    """Four classes in two tasks, large enough for every network."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 5)):
        for label, name in enumerate("abcd"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                pixels[label * 8 : label * 8 + 8] += 100
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder
