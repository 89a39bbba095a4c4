"""One battery for every method: its model loaded, images recognised, exported to every format.

Of what is exported the card is followed to the letter, from the file of an image on.
"""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny_runs import make_run, prepared
from typed_commands import ness

import ness_cli
from ness_cli import registry
from ness_cli.settings.components import METHODS

VARIANTS = {"trgp": ["methods.trgp.relevance=0"]}  # tasks of random digits are hardly related
CASES = {name: (name, VARIANTS.get(name, [])) for name in METHODS.names()}
CASES["ness-mix"] = ("ness", ["methods.ness.mix=3"])

HOOKED = dict.fromkeys(("hat", "nsp2"), "compute between layers")
OF_A_TASK = dict.fromkeys(("code-cl", "halrp", "ness-mix", "trgp"), "anew for every task")
REFUSALS = {"torch": HOOKED, "peft": HOOKED, "merged": HOOKED | OF_A_TASK}
"""What formats cannot hold, by method; all else they do."""


def _marks(case, form):
    # Programs are converted from the network, not from what trained it: of networks with nothing
    # but weights one stands for all, and weights made anew for a task are weights.
    converted = {"pt2": HOOKED | OF_A_TASK, "onnx": HOOKED, "merged": HOOKED | OF_A_TASK}
    stands_for_all = case == "ness" or case in converted.get(form, CASES)
    return [] if stands_for_all else [pytest.mark.slow]


EXPORTS = [
    pytest.param(case, form, marks=_marks(case, form))
    for case in CASES
    for form in registry.names("ness_cli.export.formats")
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Give the run of a case, and a test image of its second task."""

    @cache
    def made(case) -> tuple[Path, Path]:
        method, overrides = CASES[case]
        run = make_run(tmp_path_factory.mktemp(case) / "run", *overrides, method=method)
        pixels = prepared(run, 2).images[0]
        image = run.parent / "new.png"
        values = pixels[0] if len(pixels) == 1 else pixels.permute(1, 2, 0)
        Image.fromarray(values.numpy()).save(image)
        return run, image

    return made


def _percent_right(model, run, task_number):
    split = prepared(run, task_number)
    names = json.loads((run / "stream.json").read_text())["tasks"][task_number - 1]["classes"]
    found = [each.label for each in model.predict(split.images, batch_size=64)]
    right = sum(a == names[b] for a, b in zip(found, split.labels.tolist(), strict=True))
    return 100 * right / len(found)


@pytest.mark.parametrize("case", CASES)
def test_the_loaded_model_has_the_accuracies_of_the_run_after_every_task(case, runs):
    run, _ = runs(case)
    results = ness_cli.read_results(run)
    for after in (1, 2):
        unknown = ness_cli.load(run, after=after)
        for task_number in range(1, after + 1):
            known = ness_cli.load(run, task_number, after=after)
            for model, matrix in (
                (known, results.task_incremental),
                (unknown, results.class_incremental),
            ):
                expected = matrix.rows[after - 1][task_number - 1]
                assert _percent_right(model, run, task_number) == pytest.approx(expected)


@pytest.mark.parametrize("case", CASES)
def test_an_image_is_recognised_as_the_loaded_model_says(case, runs):
    run, image = runs(case)
    for task_number, options in ((None, []), (1, ["--task", 1])):
        result = ness("predict", run, image, *options, "--json")
        assert result.exit_code == 0, result.stderr
        (found,) = json.loads(result.stdout)["predictions"]
        (expected,) = ness_cli.load(run, task_number).predict([image], top=3)
        assert found == {"file": str(image), **expected.as_json()}


@pytest.mark.parametrize(("case", "form"), EXPORTS)
def test_what_is_exported_computes_as_the_run_does(case, form, runs, tmp_path, monkeypatch):
    kind = registry.load_class("ness_cli.export.formats", form, setting="--to")
    if any(importlib.util.find_spec(library) is None for library in kind.libraries):
        pytest.skip(f"needs {', '.join(kind.libraries)}")
    run, image = runs(case)
    result = ness("export", run, tmp_path / "out", "--to", form)
    refusal = REFUSALS.get(form, {}).get(case)
    if refusal is not None:
        assert result.exit_code == 2
        assert f"--to {form}" in result.stderr
        assert refusal in result.stderr
        assert not list(tmp_path.iterdir())
        return
    assert result.exit_code == 0, result.stderr
    model = ness_cli.load(run, 2)
    expected = model(model.preprocess(image)[None])
    (tmp_path / "out" / "new.png").write_bytes(image.read_bytes())
    found = _by_the_card(tmp_path / "out", monkeypatch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def _by_the_card(folder, monkeypatch):
    """Return the logits of ``new.png`` by the Python blocks of the card."""
    blocks = re.findall("```python\n(.*?)```", (folder / "README.md").read_text(), re.S)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.delitem(sys.modules, "network", raising=False)
    names = {}
    exec("\n".join(blocks), names)
    return torch.as_tensor(names["logits"]).detach()
