"""A damaged file is found before it is used, named, left as it is, and its remedy is right.

``python -m faults.corruption`` damages every file in every way.
"""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest
from faults.corruption import Trials
from faults.damaged import SCENES, World, ness
from faults.damages import clear
from tiny_runs import make_run

from ness_cli.errors import NessError
from ness_cli.files import read_json
from ness_cli.lease import Lease
from ness_cli.run_dir import RunDir
from ness_cli.stages.context import read_settings


def _flipped(at):
    def damage(data):
        place = int(at * (len(data) - 1))
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    return damage


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("made") / "run", "storage.progress_picture=false")


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def _bytes(run):
    files = (path for path in run.rglob("*") if path.is_file())
    kinds = (".json", ".safetensors", ".yaml")
    return {path: path.read_bytes() for path in files if path.suffix in kinds}


def _is_found(path, run, *words):
    """Assert that a command refuses a damaged file, and return what it says."""
    before = _bytes(run)
    ended = ness(*words)
    assert ended.code in (4, 5), ended.err
    assert str(path) in ended.err
    assert "fix: " in ended.err
    assert "Traceback" not in ended.err
    assert _bytes(run) == before
    return ended.err


def _good(*words):
    ended = ness(*words)
    assert ended.code == 0, ended.err
    return " ".join(ended.err.split())


@pytest.mark.parametrize(
    "name",
    [
        *("run.json", "stream.json", "settings.yaml", "task-02/accuracy.json"),
        *("task-02/subspace.json", "task-01/model.safetensors", "task-02/update.safetensors"),
    ],
)
def test_damage_is_found_named_and_left_as_it_is(run, name):
    path = run / name
    whole = path.read_bytes()
    for damage in (_flipped(0.0), lambda data: data[: len(data) // 2], lambda _data: b""):
        path.write_bytes(damage(whole))
        if name == "settings.yaml" and path.read_bytes():
            path.write_bytes(b"\0" + whole)
        _is_found(path, run, "verify", run)
        assert ness("status", run).code in (0, 4, 5)


@pytest.mark.parametrize("number", range(3))
def test_a_changed_value_in_a_record_is_found(run, number):
    path = run / "task-02" / "accuracy.json"
    data = path.read_bytes()
    digits = [place for place, byte in enumerate(data) if chr(byte) in "12345678"]
    place = digits[number * (len(digits) - 1) // 2]
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert f"{path} is damaged" in _is_found(path, run, "report", run)


def test_a_file_of_another_task_is_found_and_the_remedy_brings_the_bits_back(run):
    path = run / "task-01" / "model.safetensors"
    whole = path.read_bytes()
    shutil.copyfile(run / "task-02" / "model.safetensors", path)
    said = _is_found(path, run, "verify", run)
    assert f"ness train-task {run} --task 1 --force" in said
    _good("train-task", run, "--task", 1, "--force")
    assert path.read_bytes() == whole
    _good("verify", run)


def test_the_remedy_of_a_damaged_record_makes_its_step_again(run):
    before = _bytes(run)
    for name, command in (
        ("accuracy", "evaluate"),
        ("subspace", "build-subspace"),
        ("train", "train-task"),
    ):
        path = run / "task-02" / f"{name}.json"
        path.write_bytes(path.read_bytes()[:-9])
        said = _is_found(path, run, "run", "--out", run)
        assert f"ness {command} {run} --task 2 --force" in said
        _good(command, run, "--task", 2, "--force")
    _good("verify", run)
    after = _bytes(run)
    assert all(after[path] == before[path] for path in before if path.suffix == ".safetensors")


def test_two_damaged_records_are_made_again_one_after_the_other(run):
    for name in ("train", "subspace"):
        (run / "task-02" / f"{name}.json").write_text("{")
    for command in ("train-task", "build-subspace"):
        _good(command, run, "--task", 2, "--force")
    _good("verify", run)


def test_a_step_whose_inputs_are_damaged_keeps_its_record(tmp_path):
    run = make_run(tmp_path / "run", "storage.progress_picture=false", method="hat")
    path = run / "task-01" / "gates.safetensors"
    path.write_bytes(b"")
    _is_found(path, run, "build-subspace", run, "--task", 2, "--force")


def test_the_record_of_another_step_or_task_is_found(run):
    for own, other, words in (
        ("task-02/accuracy.json", "task-01/accuracy.json", "the record of task 1"),
        ("task-02/subspace.json", "task-02/train.json", "ness.train/"),
    ):
        whole = (run / own).read_bytes()
        shutil.copyfile(run / other, run / own)
        assert words in _is_found(run / own, run, "verify", run)
        (run / own).write_bytes(whole)


def test_settings_that_are_damaged_or_gone_are_written_anew_from_the_record(run):
    identity = read_json(run / "run.json", remedy="")["identity"]
    for content in (b"train: [", b"no_such_setting: 1\n", None):
        (run / "settings.yaml").unlink()
        if content is not None:
            (run / "settings.yaml").write_bytes(content)
        for words in (("run", "--out", run), ("train-task", run, "--task", 2, "--force")):
            said = _is_found(run / "settings.yaml", run, *words)
            assert f"ness prepare --out {run}" in said
        _good("prepare", "--out", run)
        assert read_json(run / "run.json", remedy="")["identity"] == identity
        _good("verify", run)


def test_settings_that_are_still_some_but_not_those_written_are_found(run):
    path, record = run / "settings.yaml", read_json(run / "run.json", remedy="")
    whole = path.read_text().splitlines(keepends=True)
    for num_lines in range(2, len(whole)):
        path.write_text("".join(whole[:num_lines]))
        with pytest.raises(NessError, match=r"settings\.yaml"):
            read_settings(RunDir(run), record)
    # The hash itself, and line ends of another system.
    for damaged in (whole[1][:-2] + "!\n", whole[1][:-9], whole[1].replace("\n", "\r\n")):
        path.write_bytes("".join([whole[0], damaged, *whole[2:]]).encode())
        with pytest.raises(NessError, match=r"settings\.yaml"):
            read_settings(RunDir(run), record)
    path.write_text("".join(whole).replace("progress_picture: false", "progress_picture: true"))
    said = _is_found(path, run, "train-task", run)
    assert "was edited by hand" in said
    assert "changed by fork and extend" in said
    said = _good("prepare", "--out", run, "checkpoint.seconds=7")
    assert "the rest: evaluate.scenario=both checkpoint.seconds=7.0" in said
    assert "progress_picture: true" in path.read_text()
    assert "seconds: 7.0" in path.read_text()
    # What was edited and decides no tensor is taken when prepare is typed, as its note says.
    path.write_text(path.read_text().replace("seconds: 7.0", "seconds: 9.0"))
    _good("prepare", "--out", run)
    assert "progress_picture: true" in path.read_text()
    assert "seconds: 9.0" in path.read_text()
    _good("verify", run)
    # As versions before wrote it: without a hash.
    path.write_text("".join(path.read_text().splitlines(keepends=True)[2:]))
    assert read_settings(RunDir(run), record).checkpoint.seconds == 9


def test_a_run_without_its_record_is_not_prepared_anew_as_another_one(run):
    fingerprint = read_json(run / "run.json", remedy="")["fingerprint"]
    (run / "run.json").unlink()
    for words in (("run", "--out", run), ("status", run)):
        assert f"ness prepare --out {run}" in _is_found(run / "run.json", run, *words)
    _good("prepare", "--out", run)
    assert read_json(run / "run.json", remedy="")["fingerprint"] == fingerprint
    _good("verify", run)


def test_the_record_of_a_run_with_other_settings_is_found(run):
    path = run / "task-02" / "accuracy.json"
    record = json.loads(path.read_text()) | {"fingerprint": "0" * 64, "seal": None}
    path.write_text(json.dumps(record))
    _is_found(path, run, "verify", run)
    _good("evaluate", run, "--task", 2, "--force")
    _good("verify", run)


def test_the_description_of_other_images_is_found(run):
    path = run / "stream.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"key": "0" * 64, "seal": None}))
    _is_found(path, run, "train-task", run, "--task", 2, "--force")
    _good("prepare", "--out", run)
    _good("verify", run)


@pytest.mark.parametrize("name", ["task-02/train.json", "task-02/model.safetensors", "run.json"])
def test_what_is_no_file_is_neither_read_nor_replaced(run, name):
    path = run / name
    path.unlink()
    for make, remove in ((os.mkdir, os.rmdir), (os.mkfifo, os.unlink)):
        make(path)
        said = _is_found(path, run, "verify", run)
        assert "in its place" in said
        assert "remove it" in said
        remove(path)


def test_what_lies_in_the_place_of_files_that_decide_nothing_keeps_no_command_from_working(run):
    paths = [run / name for name in ("progress.png", "report.svg", "progress.json", "events.jsonl")]
    for put in (os.mkfifo, os.mkdir, _loop, _garbage):
        for path in paths:
            clear(path)
            put(path)
        for words in (("status",), ("report",), ("evaluate", "--task", 2, "--force")):
            _good(words[0], run, *words[1:])


def _loop(path):
    path.symlink_to(path.name)


def _garbage(path):
    path.write_bytes(b"\xff\0{")


def test_what_lies_in_the_place_of_the_log_is_named_and_not_waited_for(run):
    for put in (os.mkfifo, os.mkdir, _loop):
        clear(run / "log.txt")
        put(run / "log.txt")
        _is_found(run / "log.txt", run, "train-task", run, "--task", 2, "--force")
        _good("status", run)
        _good("report", run)


def test_nothing_is_appended_to_a_run_with_a_damaged_record(run):
    path = run / "task-01" / "train.json"
    path.write_text("{")
    _is_found(path, run, "extend", run, "data.class_order=[0,1,2,3,4,5]", "data.num_tasks=1")


def test_a_damaged_checkpoint_and_damaged_prepared_images_are_found_by_verify(
    run, tmp_path, monkeypatch
):
    path = run / "task-02" / "checkpoint.safetensors"
    shutil.copyfile(run / "task-02" / "model.safetensors", path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "delete it and run: ness train-task" in _is_found(path, run, "verify", run)
    path.unlink()
    monkeypatch.setenv("NESS_CACHE", str(tmp_path / "cache"))
    _good("prepare", "--out", run)
    (images,) = (tmp_path / "cache").glob("*/task-01-test.safetensors")
    whole = images.read_bytes()
    images.write_bytes(_flipped(1.0)(whole))
    assert f"ness prepare --out {run}" in _is_found(images, run, "verify", run)
    _good("prepare", "--out", run)
    assert images.read_bytes() == whole


def test_a_step_that_is_stale_is_named_where_an_older_model_is_used(run):
    (run / "task-02" / "model.safetensors").unlink()
    ended = ness("inspect", run)
    assert ended.code == 0
    assert "train-task of task 2 is stale" in ended.err


def test_a_lease_with_other_bytes_is_taken_over(tmp_path):
    path = tmp_path / ".lock-3"
    path.write_bytes(b"\xff\xfe{")
    os.utime(path, ns=(0, 0))
    lease = Lease(tmp_path / ".lock")
    lease.acquire()
    assert lease.is_held


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_damages_drawn_by_chance(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NESS_CACHE", str(tmp_path / "here" / "cache"))
    rng = random.Random(name)
    trials = Trials(World(tmp_path), 1, rng)
    trials.begin(SCENES[name])
    for case in rng.sample(list(trials.cases(rng)), 6):
        trials.try_(*case)
    assert trials.tally.problems == []
