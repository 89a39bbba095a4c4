"""The commands as a user types them, in this process."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from factory import dense_update
from PIL import Image
from rewrite import put_values, rewrite
from rounding import gamma
from safetensors.torch import load_file
from typed_commands import document, good, ness

from ness_cli.cli.session import cache_dir
from ness_cli.run_state import COMMANDS
from ness_cli.settings import presets, yaml_files
from ness_cli.settings.resolve import resolve
from ness_cli.stages.train_task import train_task
from ness_cli.study.engines.base import Job

QUICK = ["data.num_tasks=3", "train.epochs=2", "net.hidden=[24, 16]"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run; copy it before changing it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    good("run", "--out", out, "evaluate.scenario=both", *QUICK)
    return out


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A finished run of one's own: a run folder may be copied."""
    return Path(shutil.copytree(finished, tmp_path / "copied" / "run"))


def tensors(run: Path, task: int, name: str) -> dict[str, torch.Tensor]:
    return load_file(run / f"task-{task:02d}" / f"{name}.safetensors")


# -- the chain -----------------------------------------------------------------------------------


def test_the_steps_typed_one_by_one_each_name_the_next(tmp_path):
    out = tmp_path / "b"
    result = good("prepare", "--preset", "digits", "--out", out, *QUICK)
    for _ in range(3):
        for step in ("train-task", "build-subspace", "evaluate"):
            assert f"Next: ness {step} {out}" in result.stderr
            result = good(step, out)
    assert f"Next: ness report {out}" in result.stderr
    assert "nothing to do" in good("train-task", out).stderr


def test_run_skips_what_is_done_and_goes_on(tmp_path):
    out = tmp_path / "a"
    first = document("run", "--out", out, "--until", 1, *QUICK)["runs"][0]
    assert [s["step"] for s in first["steps"]] == ["train", "build", "evaluate"]
    second = document("run", "--out", out)["runs"][0]
    assert {s["task"] for s in second["steps"]} == {2, 3}
    assert document("run", "--out", out)["runs"][0]["steps"] == []


def test_what_there_is_one_of_is_singular(tmp_path):
    one = ["data.num_tasks=1", "train.epochs=1", "net.hidden=[8]", "methods.ness.scaling=bounded"]
    said = good("run", "--out", tmp_path / "a", *one).stderr
    said += good("prepare", "--out", tmp_path / "b", *one).stdout
    said = " ".join(said.split())  # titles fold where the folder's name is long
    for words in (
        "ness bounded on 1 task task 1",
        "trained: 1 epoch,",
        "1 task of 1 x 8 x 8 images",
    ):
        assert words in said


def test_report_as_json_has_what_scripts_read(run):
    report = document("report", run)
    assert report["schema"] == "ness.report/1"
    (one,) = report["runs"]
    matrix = one["matrix"]
    assert matrix[0][1:] == [None, None]
    assert one["acc"] == pytest.approx(sum(matrix[2]) / 3)
    assert one["bwt"] == pytest.approx(
        ((matrix[2][0] - matrix[0][0]) + (matrix[2][1] - matrix[1][1])) / 2
    )
    assert 0 <= one["class_incremental"]["acc"] <= one["acc"] <= 100


def test_w_t_is_w_1_plus_all_updates(run):
    layers = {"fc1": "backbone.fc1.weight", "fc2": "backbone.fc2.weight"}
    for layer, key in layers.items():
        weight = tensors(run, 1, "model")[key]
        for task in (2, 3):
            basis, update = tensors(run, task - 1, "basis"), tensors(run, task, "update")
            weight = (weight.double() + dense_update(basis, update, layer)).float()
            assert torch.equal(weight, tensors(run, task, "model")[key])


def test_bases_are_orthonormal_and_belong_to_their_covariance(run):
    for task in (1, 2, 3):
        basis, covariance = tensors(run, task, "basis"), tensors(run, task, "covariance")
        for layer in ("fc1", "fc2"):
            c, sigma = covariance[f"{layer}.C"], basis[f"{layer}.sigma"]
            is_open = f"{layer}.U" in basis
            kept = basis[f"{layer}.{'U' if is_open else 'Q'}"]
            assert {kept.dtype, sigma.dtype, c.dtype} == {torch.float32, torch.float64}
            num_columns = kept.shape[1]
            assert num_columns <= len(c) / 2
            # Orthonormal in float64, and rounded to float32 once: 2 u an entry, and a little.
            error = kept.double().T @ kept.double() - torch.eye(num_columns, dtype=torch.float64)
            assert (error.abs() <= 2.1 * gamma(1, torch.float32)).all()
            below = int((sigma <= basis[f"{layer}.tau"]).sum())
            assert num_columns == (below if is_open else len(c) - below)
            own = sigma[:below] if is_open else sigma[below:]
            energy = torch.trace(kept.double().T @ c @ kept.double())
            scale = float(sigma.square().sum())
            assert float(energy) == pytest.approx(
                float(own.square().sum()), rel=1e-4, abs=1e-9 * scale
            )


def test_training_opens_no_other_tasks_data(tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "--until", 1, *QUICK, "data.split_seed=11")
    stream = json.loads((out / "stream.json").read_text())
    folder = cache_dir() / stream["key"][:32]
    for path in folder.glob("task-*.safetensors"):
        if not path.name.startswith("task-02-"):
            path.unlink()
    good("train-task", out)
    good("build-subspace", out)
    result = ness("evaluate", out)
    assert result.exit_code == 4
    assert "ness prepare --out" in result.stderr
    good("prepare", "--out", out)  # makes the images again
    good("evaluate", out)


def test_joint_without_old_data_says_so(tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "--until", 1, "method.name=joint", *QUICK, "data.split_seed=12")
    key = json.loads((out / "stream.json").read_text())["key"]
    (cache_dir() / key[:32] / "task-01-train.safetensors").unlink()
    result = ness("train-task", out)
    assert result.exit_code == 4
    assert "task-01-train" in result.stderr


# -- states --------------------------------------------------------------------------------------


def test_status_shows_what_is_done_and_what_comes_next(run):
    status = document("status", run)["runs"][0]
    assert status["complete"]
    assert {s["status"] for s in status["steps"]} == {"done"}
    (run / "task-03" / "subspace.json").unlink()
    status = document("status", run)["runs"][0]
    assert status["next"] == f"ness build-subspace {run}"


def test_status_calls_tasks_by_their_classes(tmp_path):
    good("prepare", "--preset", "digits-split", "--out", tmp_path / "run")
    lines = good("status", tmp_path / "run").stdout.splitlines()
    assert [line.split()[:3] for line in lines[2:4]] == [["1", "0,", "1"], ["2", "2,", "3"]]


def test_what_depends_on_a_step_made_anew_is_stale(run):
    before = (run / "task-01" / "model.safetensors").read_bytes()
    good("train-task", run, "--task", 1, "--force")
    assert (run / "task-01" / "model.safetensors").read_bytes() == before
    assert document("status", run)["runs"][0]["complete"]  # same bits: nothing is stale

    other = {"task-01/model.safetensors": "0" * 64}
    rewrite(run / "task-01" / "train.json", lambda record: record["outputs"].update(other))
    steps = document("status", run)["runs"][0]["steps"]
    stale = {(s["task"], s["step"]) for s in steps if s["status"] == "stale"}
    # What read it, and all that was made of that.
    later = {(task, step) for task in (2, 3) for step in COMMANDS.values()}
    assert stale == {(1, "build-subspace"), (1, "evaluate"), *later}
    assert "stale" in good("status", run).stdout
    result = ness("build-subspace", run, "--task", 2, "--force")
    assert result.exit_code == 4
    assert "stale" in result.stderr


def test_a_finished_step_is_skipped_and_told_so(run):
    result = good("evaluate", run, "--task", 2)
    assert "already done" in result.stderr


def test_a_scenario_that_is_missing_is_added_to_a_finished_row(tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "--until", 1, *QUICK)
    assert document("report", out)["runs"][0]["class_incremental"] is None
    good("evaluate", out, "--scenario", "class", "--task", 1)
    one = document("report", out)["runs"][0]
    assert one["class_incremental"]["acc"] == one["acc"]  # a single task: the same thing


def test_validation_images_are_scored_on_request_and_shown_apart(tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "--until", 2, "data.valid_fraction=0.2", *QUICK)
    one = document("report", out)["runs"][0]
    assert one["validation"] is None
    good("evaluate", out, "--validation", "--task", 2)
    both = document("report", out)["runs"][0]
    assert both["matrix"] == one["matrix"]
    assert both["validation"]["matrix"][0] == [None] * 3
    assert "On validation images" in good("report", out).stdout
    # Of the last task it is what training saw, but for the statistics it is normalised with.
    trained = json.loads((out / "task-02" / "train.json").read_text())
    assert both["validation"]["matrix"][1][1] == pytest.approx(trained["valid_accuracy"], abs=10)


def test_validation_without_images_for_it_is_refused(tmp_path):
    out = tmp_path / "run"
    arguments = ("--out", out, "--until", 1, "data.valid_fraction=0", "evaluate.validation=true")
    result = ness("run", *arguments, *QUICK)
    assert result.exit_code == 2
    assert "data.valid_fraction" in result.stderr


def test_a_shared_head_has_no_class_incremental_accuracy(tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "--until", 1, "net.heads=shared", "evaluate.scenario=both", *QUICK)
    one = document("report", out)["runs"][0]
    assert one["class_incremental"] is None
    assert "not applicable" in one["class_incremental_note"]
    assert "not applicable" in good("report", out).stdout


def test_keep_latest_recomposes_any_model(finished, tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "storage.keep=latest", "evaluate.scenario=both", *QUICK)
    assert not (out / "task-02" / "model.safetensors").exists()
    assert not (out / "task-01" / "covariance.safetensors").exists()
    assert (out / "task-01" / "model.safetensors").exists()
    assert document("status", out)["runs"][0]["complete"]
    before = json.loads((out / "task-02" / "accuracy.json").read_text())
    good("evaluate", out, "--task", 2, "--force", "--scenario", "both")
    after = json.loads((out / "task-02" / "accuracy.json").read_text())
    assert after["task_incremental"] == before["task_incremental"]
    assert after["class_incremental"] == before["class_incremental"]
    newest = [("model", 1), ("model", 3), ("update", 2), ("basis", 1), ("covariance", 3)]
    for name, task in newest:
        for key, value in tensors(finished, task, name).items():
            assert torch.equal(value, tensors(out, task, name)[key])


def test_a_run_folder_may_be_moved(run, tmp_path):
    moved = run.rename(tmp_path / "elsewhere")
    good("train-task", moved, "--task", 3, "--force")
    assert document("status", moved)["runs"][0]["complete"]


def test_evaluate_stops_between_layers_and_starts_over(run, monkeypatch):
    calls = []
    forward = torch.nn.Linear.forward

    def stopped(self, x):
        calls.append(self)
        os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", stopped)
    result = ness("evaluate", run, "--task", 3, "--force")
    assert (result.exit_code, len(calls)) == (75, 1)
    monkeypatch.undo()
    good("evaluate", run, "--task", 3, "--force")


# -- seeds ---------------------------------------------------------------------------------------


def test_seeds_are_ordinary_runs_that_report_and_status_take_together(tmp_path):
    out = tmp_path / "many"
    good("run", "--out", out, "--seeds", "1,2", "--until", 2, *QUICK)
    alone = tmp_path / "alone"
    good("run", "--out", alone, "--seed", 2, "--until", 2, *QUICK)
    mine = (out / "seed-2" / "task-02" / "model.safetensors").read_bytes()
    assert mine == (alone / "task-02" / "model.safetensors").read_bytes()
    report = document("report", out)
    (group,) = report["groups"]
    accs = [r["acc"] for r in report["runs"]]
    assert group["seeds"] == [1, 2]
    assert group["acc"]["mean"] == pytest.approx(sum(accs) / 2)
    assert group["acc"]["std"] == pytest.approx(abs(accs[0] - accs[1]) / 2**0.5)
    assert len(document("status", out)["runs"]) == 2
    document("run", "--out", out, "--seeds", "1,2,3", "--until", 1)  # a new seed beside the old
    assert len(document("report", out)["runs"]) == 3


def test_a_run_and_its_copy_are_one_seed(run, finished):
    (group,) = document("report", finished, run)["groups"]
    assert group["seeds"] == [1]
    assert group["acc"]["std"] is None
    assert group["repeats"] == [{"run": str(run), "of": str(finished), "equal": True}]
    shown = good("report", finished, run).stdout
    assert "Mean ±" not in shown
    assert "are both seed 1" in shown


@pytest.mark.parametrize("seeds", ["1,1", "a", "", "1,,2", "1.5"])
def test_seeds_that_are_no_list_of_numbers_are_refused(seeds, tmp_path):
    assert ness("run", "--seeds", seeds, "--out", tmp_path / "x").exit_code == 2


def test_only_seeds_that_came_equally_far_are_averaged(tmp_path):
    out = tmp_path / "many"
    good("run", "--out", out, "--seeds", "1,2", "--until", 2, *QUICK)
    good("run", "--out", out, "--seeds", "3", "--until", 1)
    (group,) = document("report", out, out / "seed-1")["groups"]  # named twice, counted once
    assert (group["seeds"], group["seeds_behind"]) == ([1, 2], [3])
    assert "2 (1 behind)" in good("report", out).stdout


@pytest.mark.parametrize("values", [[1.0], [1.0, float("nan")], [1.0, "x"], [1.0, 101.0], 3])
def test_accuracies_that_cannot_be_are_damage(run, values):
    path = run / "task-02" / "accuracy.json"
    put_values(path, {"task_incremental": values})
    result = ness("report", run)
    assert result.exit_code == 5
    assert "accuracy.json is damaged" in result.stderr


def test_a_run_that_is_stopped_names_itself_as_the_way_on(tmp_path, monkeypatch):
    def stopped(context, number):
        signal.raise_signal(signal.SIGTERM)
        return train_task(context, number)

    monkeypatch.setattr("ness_cli.stages.run.train_task", stopped)
    arguments = ["run", "--preset", "digits", "--out", tmp_path / "a b", "--threads", 1, *QUICK]
    result = ness(*arguments, "--json")
    assert result.exit_code == 75
    error = json.loads(result.stdout)["error"]
    assert error["kind"] == "stopped"
    way_on = shlex.split(error["remedy"].removeprefix("to go on, run: "))
    assert way_on == ["ness", *map(str, arguments), "--json"]
    assert (tmp_path / "a b" / "task-01" / "checkpoint.safetensors").exists()
    monkeypatch.undo()
    assert ness(*way_on[1:]).exit_code == 0


# -- wrong input ---------------------------------------------------------------------------------


def test_wrong_settings_exit_with_2_and_name_all_problems(tmp_path):
    result = ness("prepare", "--out", tmp_path / "x", "train.lrr=1", "train.lr=-1", "net.widht=3")
    assert result.exit_code == 2
    assert "did you mean 'train.lr'" in result.stderr
    assert "train.lr: -1" in result.stderr
    assert "net.widht" in result.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train-task", "NOWHERE"], 4, "run: ness prepare"),
        (["report", "NOWHERE"], 4, "is not a run"),
        (["status", "NOWHERE"], 4, "is not a run"),
        (["run", "--preset", "digit"], 2, "did you mean 'digits'"),
        (["run", "--preset", "./nothing.yaml"], 4, "not there"),
        (["run", "--seed", "1", "--seeds", "1,2"], 2, "exclude"),
        (["run", "--device", "toaster"], 2, "toaster"),
        (["run", "method.name=nes"], 2, "did you mean 'ness'"),
        (["run", "just-words"], 2, "key=value"),
        (["run", "--until", "99"], 4, "not between"),
        (["presets", "cat", "nope"], 2, "unknown preset"),
        (["evaluate", "NOWHERE", "--scenario", "both"], 4, "ness prepare"),
    ],
)
def test_wrong_input_exits_with_its_code_and_says_what_to_do(arguments, code, words, tmp_path):
    arguments = [str(tmp_path / "nowhere") if a == "NOWHERE" else a for a in arguments]
    if arguments[0] == "run":
        arguments += ["--out", str(tmp_path / "out")]
    result = ness(*arguments)
    assert result.exit_code == code, result.stderr
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "nowhere").exists()


def test_the_parent_of_a_run_is_not_to_be_made_a_run(run):
    result = ness("train-task", run.parent)
    assert result.exit_code == 4
    assert "ness prepare" not in result.stderr
    assert f"ness status {run.parent}" in result.stderr


def test_report_and_status_take_whatever_a_shell_pattern_names(run):
    (run.parent / "notes.txt").write_text("x")
    for command in ("report", "status"):
        result = good(command, *sorted(run.parent.iterdir()))
        assert str(run) in result.stdout
        assert f"{run.parent / 'notes.txt'} is left out" in result.stderr
        assert document(command, run.parent)["runs"]


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["report", "--nonsense"], "settings", "--nonsense"),
        (["rnu"], "settings", "rnu"),
        (["train-task"], "settings", "Missing argument"),
        (["run", "train.lrr=1"], "settings", "train.lrr"),
        (["report", "nowhere"], "input", "nowhere"),
    ],
)
def test_with_json_wrong_usage_is_a_document(arguments, kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ness(*arguments, "--json")
    error = json.loads(result.stdout)["error"]
    assert (error["kind"], error["exit_code"]) == (kind, result.exit_code)
    assert words in error["what"]
    assert words in result.stderr


def test_a_cuda_device_that_is_not_there_exits_with_8(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    result = ness("run", "--device", "cuda", "--out", tmp_path / "x")
    assert result.exit_code == 8
    assert "--device" in result.stderr


def test_other_settings_on_a_run_are_refused_and_named(run):
    result = ness("run", "--out", run, "train.lr=0.5")
    assert result.exit_code == 4
    assert "train.lr: 0.1 in the run, 0.5 asked for" in result.stderr


def test_settings_without_consequence_may_change(run):
    good("run", "--out", run, "checkpoint.seconds=5")
    assert "seconds: 5" in (run / "settings.yaml").read_text()


def test_settings_edited_by_hand_are_noticed(run):
    path = run / "settings.yaml"
    path.write_text(path.read_text().replace("lr: 0.1", "lr: 0.2"))
    result = ness("train-task", run)
    assert result.exit_code == 4
    assert "train.lr" in result.stderr


def test_settings_that_do_not_work_together_are_refused_before_anything_is_trained(tmp_path):
    for overrides, words in (
        (["method.name=gpm", "train.optimizer=adam"], "a projected gradient does not confine adam"),
        (["methods.ness.form=projected", "train.optimizer=adam"], "methods.ness.form"),
        (["train.weights=best", "data.valid_fraction=0"], "data.valid_fraction"),
        (["net.heads=shared", "data.protocol=split", "data.num_tasks=2"], "net.heads"),
        (["net.name=alexnet", "net.hidden=[8]"], "net.hidden"),
    ):
        quick = [q for q in QUICK if not q.startswith(("net.hidden", "data.num"))]
        result = ness("prepare", "--out", tmp_path / "x", *quick, *overrides)
        assert result.exit_code == 2, overrides
        assert words in result.stderr


def test_a_step_that_cannot_start_leaves_the_old_one_intact(run):
    before = {path.name: path.read_bytes() for path in (run / "task-02").iterdir()}
    for command, needs in (("train-task", "basis"), ("build-subspace", "covariance")):
        damaged = run / "task-01" / f"{needs}.safetensors"
        whole = damaged.read_bytes()
        damaged.write_bytes(b"x")
        assert ness(command, run, "--task", 2, "--force").exit_code == 5
        damaged.write_bytes(whole)
    assert {path.name: path.read_bytes() for path in (run / "task-02").iterdir()} == before


def test_a_prepared_run_goes_on_without_its_source(tmp_path):
    source = tmp_path / "images"
    for split in ("train", "test"):
        for name in ("a", "b"):
            (source / split / name).mkdir(parents=True)
            for i in range(4):
                color = (40 * i, 100 if name == "a" else 200, 0)
                Image.new("RGB", (4, 4), color).save(source / split / name / f"{i}.png")
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        f"data: {{source: image-folder, path: {source}, classes_per_task: 1}}\n"
        "train: {epochs: 1, batch_size: 2}\nnet: {hidden: [4]}\n"
    )
    out = tmp_path / "run"
    good("run", "--preset", preset, "--out", out, "--until", 1)
    shutil.rmtree(source)
    good("run", "--out", out)
    assert document("status", out)["runs"][0]["complete"]


def test_a_damaged_settings_or_run_file_exits_with_5(run):
    text = (run / "settings.yaml").read_text()
    (run / "settings.yaml").write_text("seed: [")
    assert ness("train-task", run).exit_code == 5
    (run / "settings.yaml").write_text(text)
    (run / "run.json").write_text("{")
    assert ness("status", run).exit_code == 5


def test_a_missing_step_is_named_with_its_command(tmp_path):
    out = tmp_path / "run"
    good("prepare", "--out", out, *QUICK)
    good("train-task", out)
    result = ness("train-task", out)
    assert result.exit_code == 4
    assert f"ness build-subspace {out} --task 1" in result.stderr


def test_a_damaged_file_exits_with_5_and_leaves_the_rest_alone(run):
    path = run / "task-02" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    (run / "task-03" / "train.json").unlink()
    before = (run / "task-03" / "model.safetensors").read_bytes()
    result = ness("train-task", run)
    assert result.exit_code == 5
    assert "task-02/model.safetensors is damaged" in result.stderr
    assert f"ness train-task {run} --task 2 --force" in result.stderr
    assert (run / "task-03" / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("name", ["train.json", "accuracy.json"])
def test_a_damaged_record_exits_with_5(run, name):
    (run / "task-02" / name).write_text("{")
    assert ness("status", run).exit_code == 5
    assert ness("report", run).exit_code == 5


def test_a_file_of_another_run_exits_with_4(run, tmp_path):
    other = tmp_path / "other"
    good("run", "--out", other, "--seed", 9, "--until", 2, *QUICK)
    shutil.copy(other / "task-02" / "model.safetensors", run / "task-02" / "model.safetensors")
    (run / "task-03" / "train.json").unlink()
    result = ness("train-task", run)
    assert result.exit_code == 4
    assert "does not belong here: its run is" in result.stderr


def test_training_that_diverges_exits_with_6_and_names_a_layer(tmp_path):
    result = ness("run", "--out", tmp_path / "x", *QUICK, "train.lr=1e20")
    assert result.exit_code == 6
    assert "layer fc" in result.stderr
    assert "task 1, epoch" in result.stderr


def test_a_place_that_cannot_be_written_exits_with_8(tmp_path):
    (tmp_path / "file").write_text("")
    result = ness("run", "--out", tmp_path / "file" / "run", *QUICK)
    assert result.exit_code == 8


# -- looking -------------------------------------------------------------------------------------


def test_a_dry_run_shows_origins_counts_and_disk_and_writes_nothing(tmp_path):
    out = tmp_path / "x"
    result = good("prepare", "--dry-run", "--out", out, "train.lr=0.5")
    assert "command line" in result.stdout
    assert "preset digits" in result.stdout
    plan = document("prepare", "--dry-run", "--out", out, "train.lr=0.5")["runs"][0]
    assert plan["origins"]["train.lr"] == "command line"
    assert plan["stream"]["tasks"][0]["splits"]["test"]["count"] > 300
    assert not out.exists()


def test_a_dry_run_shows_every_value_as_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    changed = ["data.mean=[0.5]", "methods.ness.layer_eps1={fc*: 0.1, '*2': 1e-5}"]
    arguments = ("prepare", "--dry-run", "--out", tmp_path / "x", *changed)
    lines = good(*arguments).stdout.splitlines()
    settings = resolve("digits", changed).settings
    shown = {line.split()[0]: re.split(r"  +", line.strip())[1:] for line in lines if line.strip()}
    for key, value in (settings.flat() | settings.in_effect()).items():
        assert yaml_files.parse(shown[key][0], place=key) == value
    assert shown["methods.ness.layer_eps1"][1] == "command line"
    assert shown["methods.ness.eps1"] == ["0.001", "default (stored as null)"]


def test_quiet_prints_nothing_and_json_one_document(tmp_path):
    out = tmp_path / "run"
    result = good("run", "--out", out, "--until", 1, "--quiet", *QUICK)
    assert (result.stdout, result.stderr) == ("", "")
    step = document("train-task", out, "--task", 1)
    assert (step["schema"], step["skipped"], step["task"]) == ("ness.step/1", True, 1)


def test_presets_can_be_copied_changed_and_run(tmp_path):
    mine = tmp_path / "mine.yaml"
    good("presets", "cp", "digits", mine)
    assert ness("presets", "cp", "digits", mine).exit_code == 2
    mine.write_text("extends: digits\nseed: 4\ntrain:\n  epochs: 1\n  lr: 1e-3\n")
    plan = document("prepare", "--dry-run", "--preset", mine)["runs"][0]
    assert plan["settings"]["train"]["lr"] == 1e-3
    assert plan["origins"]["train.epochs"] == "file mine.yaml"
    assert plan["run"] == "runs/mine-ness-s4"


def test_presets_are_printed_and_checked_as_json_too(tmp_path):
    shown = document("presets", "cat", "digits")
    assert (shown["schema"], shown["preset"]) == ("ness.preset/1", "digits")
    assert shown["values"]["train"]["lr"] == resolve("digits").settings.train.lr
    assert shown["text"] == good("presets", "cat", "digits").stdout
    assert document("presets", "schema") == json.loads(good("presets", "schema").stdout)
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: digits\ntrain: {patience: 3}\n")
    checked = document("presets", "validate", "digits", mine)["presets"]
    assert checked["digits"] == {"good": True, "notes": []}
    assert "train.patience: 3 has no effect" in checked[str(mine)]["notes"][0]
    mine.write_text("train: {lr: -1}\n")
    result = ness("presets", "validate", "digits", mine, "--json")
    checked = json.loads(result.stdout)["presets"]
    assert result.exit_code == checked[str(mine)]["error"]["exit_code"] == 2
    assert (
        "train.lr: -1 should be greater than 0 (mine.yaml, line 1)"
        in (checked[str(mine)]["error"]["what"])
    )
    assert checked["digits"]["good"]


def test_presets_validate_names_every_problem(tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text("train:\n  epochs: on\n  lr: 0.1\n  lr: 0.2\n")
    result = ness("presets", "validate", bad)
    assert result.exit_code == 2
    assert "stands twice" in result.stderr


def test_every_command_has_a_help_text_with_an_example():
    for command in ("run", "prepare", "train-task", "build-subspace", "evaluate", "report"):
        assert f"ness {command}" in good(command, "--help").stdout


@pytest.mark.parametrize("width", ["80", "120"])
def test_tables_fit_the_terminal_and_lose_nothing(run, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    for command in (["report", run], ["status", run], ["evaluate", run, "--task", "3"]):
        result = good(*command)
        assert max(map(len, result.stdout.splitlines())) <= int(width)
        assert "…" not in result.stdout


@pytest.fixture
def forked_jobs(processes, monkeypatch) -> None:
    """Have the processes of ``--jobs`` forked, one after the other."""

    def start(job: Job, environment: dict[str, str]) -> SimpleNamespace:
        ended = processes.ness(*job.command)
        job.log.write_text(ended.err)
        return SimpleNamespace(poll=lambda: ended.code, returncode=ended.code)

    monkeypatch.setattr("ness_cli.study.processes.start", start)


# -- reproduce, presets, plans -------------------------------------------------------------------


def _preset_with(published: str, folder: Path) -> Path:
    path = folder / "mine.yaml"
    path.write_text(
        f"extends: digits\nabout: {{published: {{{published}, source: here}}, seeds: [1, 2]}}\n"
        "data: {num_tasks: 2}\ntrain: {epochs: 2}\nnet: {hidden: [16]}\n"
    )
    return path


def test_reproduce_passes_or_falls_short_and_says_so_in_a_file(tmp_path):
    preset, out = _preset_with("acc: 99.9", tmp_path), tmp_path / "out"
    short = ness("reproduce", preset, "--out", out, "--json")
    assert short.exit_code == 3
    verdict = json.loads((out / "reproduction.json").read_text())
    assert verdict["verdict"] == "falls short"
    assert json.loads(short.stdout)["reproduction"] == verdict
    measured = verdict["comparisons"][0]["measured"]
    assert sorted(p.name for p in out.glob("seed-*")) == ["seed-1", "seed-2"]
    # The published value is no part of a run: the same runs, now compared with another one.
    _preset_with(f"acc: {measured}", tmp_path)
    again = ness("reproduce", preset, "--out", out)
    assert again.exit_code == 0
    assert "nothing to do" in again.stderr
    assert "pass" in again.stdout
    _preset_with("acc: 0.5", tmp_path)
    above = ness("reproduce", preset, "--out", out, "--json")
    assert above.exit_code == 0
    assert json.loads(above.stdout)["reproduction"]["verdict"] == "better"
    one = ("--out", tmp_path / "one", "--seeds", 1, "train.lr=0.2", "checkpoint.seconds=5")
    changed = json.loads(ness("reproduce", preset, *one, "--json").stdout)["reproduction"]
    assert changed["verdict"] in ("consistent", "better")
    assert changed["note"].endswith("changed from the preset: train.lr=0.2")


def test_a_quick_reproduction_compares_nothing(forked_jobs, tmp_path):
    preset = _preset_with("acc: 0.5", tmp_path)
    result = document("reproduce", preset, "--quick", "--out", tmp_path / "out")
    assert result["reproduction"]["verdict"] == "not compared"
    assert "smoke test" in result["reproduction"]["note"]
    assert [run["run"] for run in result["runs"]] == [str(tmp_path / "out" / "seed-1")]
    both = ("--quick", "--seeds", "1,2", "--jobs", 2, "--threads", 1)
    several = document("reproduce", preset, *both, "--out", tmp_path / "both")
    assert [run["tasks_done"] for run in several["report"]["runs"]] == [2, 2]


def test_presets_are_listed_by_benchmark_on_one_line_each():
    listed = document("presets", "ls")
    assert "digits" in listed["benchmarks"]["digits"]
    assert sorted(n for g in listed["benchmarks"].values() for n in g) == sorted(listed["presets"])
    lines = good("presets", "ls").stdout.splitlines()
    headings = {head: rest for head, _, rest in (line.partition(": ") for line in lines)}
    for benchmark, names in listed["benchmarks"].items():
        assert headings[benchmark]
        for name in names:
            assert presets.head(presets.paths()[name])[1].startswith(headings[benchmark])
    for name in listed["presets"]:
        assert sum(line.split()[:1] == [name] for line in lines) == 1


def test_a_plan_shows_tasks_layers_and_bytes():
    arguments = ("prepare", "--preset", "digits", "--dry-run", "net.biases=true", *QUICK)
    plan = document(*arguments)["runs"][0]
    assert [layer["d"] for layer in plan["layers"]] == [64, 24]
    assert plan["frozen"] == {"fc1.bias": 24, "fc2.bias": 16}
    shown = good(*arguments).stdout
    assert "trained in task 1 only, 40 numbers: fc1.bias, fc2.bias" in shown


def test_a_plan_of_missing_files_names_all_of_them_and_exits_with_4(tmp_path):
    result = ness(
        "prepare", "--preset", "five-resnet18-quick", "--dry-run", f"data.path={tmp_path}"
    )
    assert result.exit_code == 4
    for name in ("CIFAR-10", "MNIST", "SVHN", "Fashion-MNIST", "notMNIST"):
        assert f"{name}: " in result.stderr
    assert list(tmp_path.iterdir()) == []


# -- several processes ---------------------------------------------------------------------------


def _hashes(run: Path) -> dict[str, str]:
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*.safetensors"))
    }


@pytest.mark.parametrize("jobs", ["forked_jobs", pytest.param(None, marks=pytest.mark.slow)])
def test_seeds_in_processes_leave_the_files_they_would_have_left_alone(jobs, request, tmp_path):
    if jobs is not None:
        request.getfixturevalue(jobs)
    arguments = ("run", "--preset", "digits", "--seeds", "1,2", "--threads", 1, *QUICK)
    document_of = document(*arguments, "--out", tmp_path / "many", "--jobs", 2)
    good(*arguments, "--out", tmp_path / "one")
    for seed in (1, 2):
        alone = _hashes(tmp_path / "one" / f"seed-{seed}")
        assert alone
        assert _hashes(tmp_path / "many" / f"seed-{seed}") == alone
    assert [run["tasks_done"] for run in document_of["report"]["runs"]] == [3, 3]


def test_a_process_that_fails_gives_its_exit_code_and_keeps_no_other(forked_jobs, tmp_path):
    arguments = ("run", "--preset", "digits", "--seeds", "1,2", "--out", tmp_path / "m", *QUICK)
    good(*arguments, "--until", 1)
    model = tmp_path / "m" / "seed-1" / "task-01" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    result = ness(*arguments, "--jobs", 2)
    assert result.exit_code == 5
    assert "seed-1 (exit code 5)" in result.stderr
    assert "seed-1: error: " in result.stderr
    assert document("status", tmp_path / "m" / "seed-2")["runs"][0]["next"].startswith(
        "ness report"
    )


def test_redoing_a_middle_task_depends_on_nothing_later(tmp_path):
    out = tmp_path / "run"
    good("run", "--out", out, "storage.keep=latest", *QUICK)
    good("train-task", out, "--task", 2, "--force")
    inputs = json.loads((out / "task-02" / "train.json").read_text())["inputs"]
    assert inputs
    assert all(name.startswith("task-01/") for name in inputs)
    (out / "task-03" / "model.safetensors").unlink()
    (out / "task-03" / "train.json").unlink()
    good("run", "--out", out, "storage.keep=latest", *QUICK, "--force")
    assert document("status", out)["runs"][0]["complete"]


def test_validation_asked_for_later_is_given_where_models_are_kept(tmp_path):
    out = tmp_path / "run"
    arguments = ("run", "--out", out, "storage.keep=latest", "method.name=sgp", *QUICK)
    good(*arguments, "data.valid_fraction=0.2")
    good(*arguments, "data.valid_fraction=0.2", "evaluate.validation=true")
    matrix = document("report", out)["runs"][0]["validation"]["matrix"]
    assert None not in matrix[2]
    assert matrix[1] == [None] * 3
    assert "already done" in good("evaluate", out, "--validation", "--task", 2).stderr


def test_what_comes_next_is_the_report_of_all_seeds_and_a_preset_that_runs(tmp_path):
    out = tmp_path / "many"
    small = ["data.num_tasks=1", "train.epochs=1", "net.hidden=[8]", "data.limit_per_class=5"]
    said = good("run", "--out", out, "--seeds", "1,2", *small).stderr
    assert said.splitlines()[-1] == f"Next: ness report {out}"
    for name, more in (("images", " data.path=FOLDER"), ("digits", "")):
        copy = tmp_path / f"{name}.yaml"
        assert good("presets", "cp", name, copy).stderr == f"Next: ness run --preset {copy}{more}\n"
