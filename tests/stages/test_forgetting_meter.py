"""The forgetting meter: records, files, status, report and inspect tell the same."""

from __future__ import annotations

import io
import json
import math
import shutil

import pytest
from rewrite import put_values, rewrite
from rich.console import Console
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.results.forgetting_meter import ForgettingMeter, Update
from ness_cli.results.forgetting_meter_tables import layers_table, percent_of

SMALL = [
    *("--preset", "digits", "data.num_tasks=3", "train.epochs=2", "net.hidden=[24, 16]"),
    *("data.limit_per_class=30", "evaluate.batch_size=100", "methods.ness.eps1=0.05"),
]
BUDGET = ["methods.ness.scaling=bounded", "methods.ness.budget=0.02"]


def _ness(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _json(*arguments):
    return json.loads(_ness(*arguments, "--json"))


def _run(out, *overrides):
    _ness("run", "--out", out, *SMALL, *overrides)
    return out


def _record(run, task, name):
    return json.loads((run / f"task-{task:02d}" / f"{name}.json").read_text())


def _forget_records(run):
    """Make a run look as one from before anything was recorded."""
    for path in (*run.glob("task-*/train.json"), *run.glob("task-*/subspace.json")):
        rewrite(path, lambda record: record.pop("output_change", None))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("held") / "run", *BUDGET)


def test_every_update_is_in_a_record(plain, held):
    for task in (2, 3):
        assert "output_change" not in _record(plain, task, "train")
        own = _record(plain, task, "subspace")["output_change"]
        assert own.keys() == {"fc1", "fc2"}
        assert all(change.keys() == {"rho"} and change["rho"] > 0 for change in own.values())
        # With a budget training knows it, and building does not say it again.
        assert "output_change" not in _record(held, task, "subspace")
        own = _record(held, task, "train")["output_change"]
        assert all(change.keys() == {"rho", "budget"} for change in own.values())
    assert "output_change" not in _record(plain, 1, "subspace")


@pytest.mark.parametrize(
    "overrides",
    [
        ["methods.ness.scaling=conceptor", "net.heads=shared"],
        ["methods.ness.covariance=recompute"],
        ["compute.precision=bf16", "storage.keep=latest"],
        ["train.optimizer=adam", "train.lr=0.01"],
        ["net.biases=true", "net.bias=augmented", "methods.ness.scaling=bounded"],
    ],
)
def test_rho_of_the_second_task_is_what_inspect_measures_on_images(overrides, tmp_path):
    run = _run(tmp_path / "run", "data.num_tasks=2", *overrides)
    found = _json("inspect", run)
    (update,) = found["forgetting_meter"]["updates"]
    measured = {row["layer"]: row["rms_relative"] for row in found["updates"]}
    assert update["layers"].keys() == measured.keys()
    assert ("heads.shared" in measured) == ("net.heads=shared" in overrides)
    for layer, rho in measured.items():
        # Inspect passes images through in float32, and takes the difference of float32 weights.
        assert update["layers"][layer]["rho"] == pytest.approx(rho, rel=1e-3)


@pytest.mark.parametrize("name", ["plain", "held"])
def test_files_tell_what_records_tell(name, request, tmp_path):
    run = request.getfixturevalue(name)
    recorded = _json("report", run)["runs"][0]["forgetting_meter"]
    assert recorded["missing"] == []
    assert recorded == _json("inspect", run)["forgetting_meter"]
    assert recorded == _json("status", run)["runs"][0]["forgetting_meter"]
    old = shutil.copytree(run, tmp_path / "run")
    _forget_records(old)
    assert _json("report", old)["runs"][0]["forgetting_meter"] is None
    assert "Forgetting meter" not in _ness("report", old)
    assert _json("inspect", old)["forgetting_meter"] == recorded
    # Where the covariance before an update is gone, nobody can tell.
    gone, record = "task-01/covariance.safetensors", old / "task-01" / "subspace.json"
    (old / gone).unlink()
    put_values(record, {"removed": [gone]})
    left = _json("inspect", old)["forgetting_meter"]
    assert left["missing"] == [2]
    assert [update["task"] for update in left["updates"]] == [3]
    assert "not known of the update of task 2" in _ness("inspect", old)


def test_a_run_that_keeps_the_latest_files_tells_by_its_records(plain, tmp_path):
    run = _run(tmp_path / "run", "storage.keep=latest")
    assert not (run / "task-02" / "covariance.safetensors").exists()
    found = _json("inspect", run)["forgetting_meter"]
    assert found == _json("report", run)["runs"][0]["forgetting_meter"]
    for mine, other in zip(
        found["updates"],
        _json("report", plain)["runs"][0]["forgetting_meter"]["updates"],
        strict=True,
    ):
        assert mine["rho"] == pytest.approx(other["rho"], rel=1e-4)


def test_shares_are_those_of_the_limit_on_all_earlier_tasks(held):
    meter = _json("status", held)["runs"][0]["forgetting_meter"]
    for update in meter["updates"]:
        for own in update["layers"].values():
            assert own["limit"] == pytest.approx(0.02 / math.sqrt(update["task"] - 1))
            assert own["budget_used"] == pytest.approx(own["rho"] / own["limit"])
            assert own["budget_used"] <= 1 + 1e-6
        assert update["budget_used"] > 0.999
    for layer, total in meter["sums"].items():
        rhos = [update["layers"][layer]["rho"] for update in meter["updates"]]
        assert total == pytest.approx(sum(rhos))
        assert meter["root_sums_of_squares"][layer] == pytest.approx(math.hypot(*rhos))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", ["status", "report", "inspect"])
def test_the_meter_is_shown_and_fits(plain, held, command, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    runs = [held] if command == "inspect" else [plain, held]
    for named in [[held], runs]:
        lines = _ness(command, *named).splitlines()
        assert max(map(len, lines)) <= width
        shown = "\n".join(lines)
        assert "rho" in shown
        assert "…" not in shown
        assert "100.00" in shown  # of the budget


def test_other_methods_have_none(tmp_path):
    run = _run(tmp_path / "run", "method.name=gpm", "data.num_tasks=2")
    for command in ("status", "report", "inspect"):
        assert "rho" not in _ness(command, run)
    assert _json("inspect", run)["forgetting_meter"] is None


def test_a_pool_has_the_limit_itself():
    update = Update.of(5, {"fc": {"rho": 0.01, "budget": 0.04}}, "pool")
    assert update.layers["fc"].limit == 0.04
    assert update.share == 0.25
    assert Update.of(5, {"fc": {"rho": 0.0, "budget": 0.0}}, "task").share is None


def test_what_has_changed_without_bound_is_no_number_in_json():
    update = Update.of(2, {"fc": {"rho": None}}, "task")
    meter = ForgettingMeter((update,), (), "task")
    document = meter.document()
    assert document["updates"][0]["rho"] is None
    assert document["sums"] == {"fc": None}
    json.dumps(document, allow_nan=False)
    assert [percent_of(v) for v in (math.inf, None, 1e-9, 0.0, 0.0998)] == [
        *("inf", "-", "<0.01", "0.00", "9.98"),
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_many_updates_of_many_layers_show_the_latest(width):
    names = {f"encoder.layers.encoder_layer_{n}.mlp.0": {"rho": 0.123, "budget": 0.5} for n in "01"}
    updates = tuple(Update.of(task, names, "task") for task in range(2, 31))
    shown = layers_table(ForgettingMeter(updates, (), "task"), width)
    console = Console(file=io.StringIO(), width=width)
    console.print(shown)
    text = console.file.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    assert " 30 " in text
    assert "earlier updates left out for width" in text
    assert f"{29 * 12.3:.2f}" in text  # sums are of all of them


def test_without_validation_images_a_budget_that_chooses_itself_is_kept_whole(tmp_path):
    auto = ["methods.ness.scaling=none", "methods.ness.budget=auto", "data.valid_fraction=0"]
    run = _run(tmp_path / "run", *auto)
    (update, later) = (_record(run, task, "train")["output_change"] for task in (2, 3))
    for name, own in update.items():
        assert own["budget"] == pytest.approx(0.1)  # a ninth of what is allowed in all
        left = 0.3**2 - own["rho"] ** 2
        assert later[name]["budget"] == pytest.approx(math.sqrt(left / 9))
