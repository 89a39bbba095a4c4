"""The example in the documentation runs as it stands."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLE = Path(__file__).parents[1] / "docs" / "example.py"


def _save(folder: Path, colours: dict[str, tuple[int, int, int]]) -> None:
    rng = np.random.default_rng(0)
    for name, colour in colours.items():
        for split, count in (("train", 12), ("test", 4)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                noise = rng.integers(0, 60, (8, 8, 3))
                pixels = (np.array(colour) + noise).astype(np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


def test_the_example_trains_extends_recognises_and_draws(tmp_path, capsys):
    _save(tmp_path / "leaves", {"red": (190, 0, 0), "green": (0, 190, 0)})
    _save(tmp_path / "may", {"blue": (0, 0, 190), "grey": (120, 120, 120)})
    spec = importlib.util.spec_from_file_location("example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    out, image = tmp_path / "run", tmp_path / "may" / "test" / "blue" / "0.png"
    settings = ["net.name=mlp", "net.hidden=[12]", "train.epochs=6", "train.augment=[]"]
    found = example.main(
        tmp_path / "leaves", tmp_path / "may", image, *settings, "data.size=8", out=out
    )
    assert found.label in ("red", "green", "blue", "grey")
    assert f"{image}: {found.label} of task {found.task}" in capsys.readouterr().out
    with Image.open(out / "spectrum.png") as picture:
        assert picture.size == (640, 480)
