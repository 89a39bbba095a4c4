from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.methods.task import LayerRow
from ness_cli.settings.resolve import resolve
from ness_cli.stages.build_subspace import closed_note


@pytest.mark.parametrize(
    ("overrides", "way"),
    [
        (["method.name=ness"], "raise methods.ness.eps1, or set methods.ness.scaling=bounded"),
        (["methods.ness.threshold=knee"], "set methods.ness.scaling=bounded"),
        (["methods.ness.scaling=bounded"], "raise methods.ness.eps1"),
        (["method.name=gpm"], "lower methods.gpm.threshold or methods.gpm.threshold_increase"),
        (["method.name=trgp"], "lower methods.trgp.threshold or methods.trgp.threshold_increase"),
        (["method.name=dfgp"], "lower methods.dfgp.threshold or methods.dfgp.threshold_increase"),
        (["method.name=sgp"], "lower methods.sgp.threshold or methods.sgp.scale_coefficient"),
    ],
)
def test_a_layer_without_an_open_direction_is_named_with_a_way_to_open_it(overrides, way):
    options = resolve("digits", overrides).settings.options
    rows = [LayerRow(f"conv{n}", 9, rank, 0.1, 0.0, "") for n, rank in ((1, 0), (2, 3), (3, 0))]
    expected = f"conv1, conv3: no direction is open to the next task; {way}"
    assert closed_note(rows, options) == expected
    assert closed_note(rows[1:2], options) == ""


def test_it_is_said_where_a_task_follows(tmp_path):
    # Noise uses every direction of the first layer; a later one may have units that are never on.
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_{kind}": values
        for split in ("train", "test")
        for kind, values in (
            ("images", rng.integers(0, 256, (24, 2, 2), dtype=np.uint8)),
            ("labels", np.arange(24) % 4),
        )
    }
    np.savez(tmp_path / "noise.npz", **arrays)
    preset = tmp_path / "noise.yaml"
    preset.write_text(
        f"data: {{source: npz, path: {tmp_path / 'noise.npz'}, classes_per_task: 2}}\n"
        "train: {epochs: 1}\nmethods: {ness: {eps1: 1e-9}}\n"
    )
    typed = ["run", "--preset", str(preset), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, typed, catch_exceptions=False)
    assert result.exit_code == 0
    said = [line for line in result.stderr.splitlines() if "no direction is open" in line]
    assert len(said) == 1
    assert said[0].startswith("task 1: fc1")


def test_what_training_leaves_for_the_next_task_counts_as_memory(tmp_path):
    memory = {}
    for name in ("owm", "finetune"):
        typed = ["run", "--preset", "digits", "--out", str(tmp_path / name), f"method.name={name}"]
        short = ["data.num_tasks=1", "train.epochs=1", "net.hidden=[4, 3]", "data.size=4"]
        assert CliRunner().invoke(app, [*typed, *short], catch_exceptions=False).exit_code == 0
        folder = tmp_path / name / "task-01"
        memory[name] = json.loads((folder / "subspace.json").read_text())["memory_bytes"]
    assert memory["finetune"] == 0
    projectors = load_file(tmp_path / "owm" / "task-01" / "projector.safetensors").values()
    assert memory["owm"] == sum(each.numel() * each.element_size() for each in projectors)
    assert memory["owm"] >= 8 * (16**2 + 4**2)
