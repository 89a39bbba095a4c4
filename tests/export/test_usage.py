"""The code on a model card reads images as the run did."""

from __future__ import annotations

import re

import numpy as np
import pytest
from export.exported import make_subject
from PIL import Image

from ness_cli.data.formats.image import Form
from ness_cli.export.formats.onnx import Onnx
from ness_cli.export.usage import usage


@pytest.mark.parametrize("fit", ["bilinear", "lanczos", "pad"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_the_run(channels, fit, tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new.png")
    form = Form(channels, (12, 13), fit)
    text = usage(Onnx(), make_subject(), form)
    reading = re.search("```python\n(.*?)```", text, re.S).group(1)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(reading, names)
    with (tmp_path / "new.png").open("rb") as file:
        expected = form.of_file(file, "new.png")
    assert names["images"].dtype == np.uint8
    assert np.array_equal(names["images"], expected[None])
    assert "pip install numpy onnxruntime pillow\n" in text
