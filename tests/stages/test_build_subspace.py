from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.methods.base import LayerRow
from ness_cli.settings.resolve import resolve
from ness_cli.stages.build_subspace import closed_note


@pytest.mark.parametrize(
    ("overrides", "way"),
    [
        (["method.name=ness"], "raise methods.ness.eps1, or set methods.ness.scaling=bounded"),
        (["methods.ness.threshold=knee"], "set methods.ness.scaling=bounded"),
        (["methods.ness.scaling=bounded"], "raise methods.ness.eps1"),
        (["method.name=gpm"], "lower methods.gpm.threshold or methods.gpm.threshold_increase"),
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
    settings = ["data.num_tasks=2", "train.epochs=1", "net.hidden=[8, 8]"]
    out = ["--out", str(tmp_path / "run"), "methods.ness.eps1=1e-9"]
    result = CliRunner().invoke(app, ["run", *out, *settings], catch_exceptions=False)
    assert result.exit_code == 0
    assert "task 1: fc2: no direction is open to the next task" in result.stderr
    assert "task 2: fc" not in result.stderr
