"""What a run promised, measured on the inputs it was promised for."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from rewrite import rewrite
from safetensors.torch import load_file
from typer.testing import CliRunner

from ness_cli import tensor_files
from ness_cli.cli.app import app
from ness_cli.results.inspection import spectrum_picture

SMALL = [
    *("--preset", "digits", "data.num_tasks=3", "train.epochs=3", "net.hidden=[24, 16]"),
    "data.limit_per_class=30",
    *("net.batch_norm=true", "evaluate.batch_size=100"),
]
PROMISE = 1e-3


def _ness(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def _run(out, *overrides):
    result = _ness("run", "--out", out, *SMALL, *overrides)
    assert result.exit_code == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("inspected") / "run", "methods.ness.eps1=0.02")


@pytest.mark.parametrize(
    "overrides",
    [
        ["methods.ness.eps1=0.02"],
        ["methods.ness.scaling=bounded", "methods.ness.eps1=0.02", "storage.keep=latest"],
        ["methods.ness.covariance=recompute", "methods.ness.eps1=0.02"],
        ["norm.affine=per-task", "methods.ness.threshold=energy", "methods.ness.eps1=0.01"],
        ["train.optimizer=adam", "train.lr=0.01", "methods.ness.eps1=0.02"],
        ["methods.ness.mix=8", "methods.ness.eps1=0.02", "storage.keep=latest"],
    ],
)
def test_no_update_breaks_its_bound_on_any_earlier_input(overrides, tmp_path):
    out = _run(tmp_path / "run", *overrides)
    result = _ness("inspect", out, "--check", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["violations"] == []
    pairs = {(row["task"], row["on_task"], row["layer"]) for row in found["updates"]}
    assert len(pairs) == 3 * 2  # (2, 1), (3, 1), (3, 2), two layers each
    for row in found["updates"]:
        assert row["rows"] > 100
        assert 0 < row["rms"] <= row["largest"]
        assert row["bound"] == pytest.approx(row["tau"] * row["norm"])
    assert [row["task"] for row in found["drift"]] == [1, 2]


def test_what_tasks_that_mix_see_is_measured_as_their_records_have_it(tmp_path):
    bounded = ["methods.ness.scaling=bounded", "methods.ness.eps1=0.05"]
    out = _run(tmp_path / "run", "methods.ness.mix=8", "methods.ness.budget=0.5", *bounded)
    found = json.loads(_ness("inspect", out, "--json").stdout)
    recorded = json.loads((out / "task-03" / "train.json").read_text())["output_change"]
    model, covariance = (
        load_file(out / "task-02" / f"{name}.safetensors") for name in ("model", "covariance")
    )
    for layer, own in recorded.items():
        rows = [r for r in found["updates"] if (r["task"], r["layer"]) == (3, layer)]
        assert [r["on_task"] for r in rows] == [1, 2]
        w, c = model[f"backbone.{layer}.weight"].double(), covariance[f"{layer}.C"]
        moved, before = sum(r["rows"] * r["rms"] ** 2 for r in rows), float((w @ c * w).sum())
        assert (moved / before) ** 0.5 == pytest.approx(own["rho"], rel=1e-4)


@pytest.mark.parametrize("scaling", ["hard", "bounded"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_promise_is_kept_and_binds(scaling, optimizer, tmp_path):
    out = _run(
        tmp_path / "run",
        f"methods.ness.scaling={scaling}",
        f"train.optimizer={optimizer}",
        "train.lr=0.01",
        "methods.ness.eps1=0.02",
        f"methods.ness.max_output_change={PROMISE}",
    )
    found = json.loads(_ness("inspect", out, "--check", "--json").stdout)
    assert found["violations"] == []
    largest = max(row["largest"] for row in found["updates"])
    assert largest <= math.sqrt(PROMISE) * (1 + 1e-4)
    # It is the clip that keeps it: some V is as large as allowed.
    tightest = max(row["bound"] for row in found["updates"])
    assert tightest == pytest.approx(math.sqrt(PROMISE), rel=1e-3)
    assert "promised: no change above" in _ness("inspect", out).stdout


def test_without_the_clip_the_same_training_changes_more(run):
    found = json.loads(_ness("inspect", run, "--json").stdout)
    assert max(row["largest"] for row in found["updates"]) > 10 * math.sqrt(PROMISE)
    assert "no promise" in _ness("inspect", run).stdout


def test_a_tampered_v_is_found(run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    path, record = out / "task-02" / "update.safetensors", out / "task-02" / "train.json"
    tensors, identity = tensor_files.read_with_identity(path, remedy="")
    sha256 = tensor_files.write(path, {k: v * 1e-3 for k, v in tensors.items()}, identity)
    rewrite(
        record,
        lambda content: content["outputs"].update({path.relative_to(out).as_posix(): sha256}),
    )
    result = _ness("inspect", out, "--check")
    assert result.exit_code == 3
    assert "violated: fc" in result.stderr
    assert "rows change by more than tau ||V||" in result.stderr


def test_a_damaged_file_is_no_violation_but_damage(run, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    path = out / "task-02" / "update.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert _ness("inspect", out, "--check").exit_code == 5


def test_room_is_that_of_the_files(run):
    found = json.loads(_ness("inspect", run, "--json", "--images", 50).stdout)
    for row in found["room"]:
        basis = load_file(run / f"task-{row['task']:02d}" / "basis.safetensors")
        layer = row["layer"]
        below = int((basis[f"{layer}.sigma"] <= basis[f"{layer}.tau"]).sum())
        kept = basis.get(f"{layer}.U", basis.get(f"{layer}.Q"))
        assert row["rank"] == below
        assert kept.shape[1] == min(below, row["d"] - below)
        own = found["spectra"][str(row["task"])][row["layer"]]
        assert own["sigma"] == basis[f"{row['layer']}.sigma"].tolist()
    last = next(r for r in found["room"] if (r["task"], r["layer"]) == (3, "fc2"))
    ranks = [row["rank"] for row in found["room"] if row["layer"] == "fc2"]
    assert last["closed_per_task"] == (ranks[0] - ranks[2]) / 2


def test_tables_fit_80_columns(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = _ness("inspect", run).stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("|" in line and "▇" in line for line in lines)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_spectra_are_drawn(run, tmp_path, ending):
    path = tmp_path / "pictures" / f"spectra.{ending}"
    assert _ness("inspect", run, "--images", 10, "--plot", path).exit_code == 0
    assert path.stat().st_size > 5000


def test_other_methods_show_room_and_drift_and_claim_nothing(tmp_path):
    out = _run(tmp_path / "run", "method.name=gpm")
    result = _ness("inspect", out)
    assert result.exit_code == 0
    assert "room after task 3" in " ".join(result.stdout.split())  # the path may fold the line
    assert "Drift" in result.stdout
    refused = _ness("inspect", out, "--check")
    assert refused.exit_code == 2
    assert "gpm claims no bound" in refused.stderr


def test_what_is_not_there_is_said(tmp_path):
    out = tmp_path / "run"
    assert _ness("prepare", "--out", out, *SMALL).exit_code == 0
    result = _ness("inspect", out)
    assert result.exit_code == 4
    assert "ness train-task" in result.stderr


def test_a_reader_of_old_numbers_can_repeat_one(run):
    """The largest change of one update, from the files alone."""
    found = json.loads(_ness("inspect", run, "--json").stdout)
    before, after = (load_file(run / f"task-0{t}" / "model.safetensors") for t in (1, 2))
    row = next(r for r in found["updates"] if (r["task"], r["layer"]) == (2, "fc1"))
    change = after["backbone.fc1.weight"] - before["backbone.fc1.weight"]
    covariance = load_file(run / "task-01" / "covariance.safetensors")["fc1.C"]
    # sum ||x^T dW||^2 over the rows is the trace of dW C dW^T.
    total = torch.trace(change.double() @ covariance @ change.double().T)
    assert row["rms"] == pytest.approx(float(total / row["rows"]) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("method", ["finetune", "joint", "sgp"])
def test_a_run_without_bounds_is_inspected_all_the_same(method, tmp_path):
    out = _run(tmp_path / "run", f"method.name={method}", "storage.keep=latest")
    result = _ness("inspect", out, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["room"] == []) == (method != "sgp")
    # Of the models only the first and the last are kept.
    assert [row["task"] for row in found["drift"]] == [1]
    assert "left out, their models are not kept: 2" in _ness("inspect", out).stdout


def test_inputs_of_low_rank_have_a_spectrum_too(tmp_path):
    small = ["data.limit_per_class=6", "data.num_tasks=2", "net.hidden=[24, 16]", "train.epochs=1"]
    out = tmp_path / "run"
    assert _ness("run", "--preset", "digits", "--out", out, "--until", 1, *small).exit_code == 0
    result = _ness("inspect", out)
    assert result.exit_code == 0, result.stderr
    assert "▁" in result.stdout
    assert spectrum_picture([0.0, 0.0], 0.0, 2) == "▁▁|"
    assert spectrum_picture([0.0, 1e-9, 1.0], 0.5, 2) == "▁▁|█"


def test_updates_far_smaller_than_the_weights_are_no_violation(tmp_path):
    out = _run(tmp_path / "run", "methods.ness.eps1=1e-9", "train.lr=1e-4")
    assert _ness("inspect", out, "--check").exit_code == 0


def test_room_and_spectra_need_no_images(run, monkeypatch, tmp_path):
    whole = json.loads(_ness("inspect", run, "--json", "--images", 10).stdout)
    assert whole["left_out"] is None
    monkeypatch.setenv("NESS_CACHE", str(tmp_path / "empty"))
    picture = tmp_path / "spectra.svg"
    result = _ness("inspect", run, "--json", "--plot", picture)
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["room"], found["spectra"]) == (whole["room"], whole["spectra"])
    assert (found["updates"], found["drift"]) == ([], [])
    assert "task-01-train.safetensors is missing" in found["left_out"]
    assert "ness prepare --out" in found["left_out"]
    assert picture.exists()
    result = _ness("inspect", run)
    assert "left out" in result.stderr
    assert "room after task 3" in " ".join(result.stdout.split())  # the path may fold the line


def test_a_check_needs_images_and_says_which(run, monkeypatch, tmp_path):
    monkeypatch.setenv("NESS_CACHE", str(tmp_path / "empty"))
    result = _ness("inspect", run, "--check")
    assert result.exit_code == 4
    assert "task-01-train.safetensors is missing" in result.stderr
    assert "ness prepare --out" in result.stderr
