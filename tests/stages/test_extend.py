"""Tasks appended to a run: the same tensors as if they had been known, and nothing else changes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from factory import Notes
from PIL import Image
from safetensors.torch import load_file

import ness_cli
from ness_cli.console import Progress
from ness_cli.errors import InputError, MissingFilesError, SettingsError, StoppedError
from ness_cli.results.read_run import read_run
from ness_cli.results.run_status import read_status
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_run_record, read_state
from ness_cli.settings import yaml_files
from ness_cli.settings.resolve import resolve, resolve_again
from ness_cli.stages import extend as stage
from ness_cli.stages.context import RunContext
from ness_cli.stages.extend import extend, plan_extension, take_back
from ness_cli.stages.prepare import prepare
from ness_cli.stages.run import run_steps
from ness_cli.stages.train_task import train_task
from ness_cli.stop_request import StopRequest
from ness_cli.workplace import Workplace

NPZ = ["data.source=npz", "data.protocol=split"]
TINY = ["net.hidden=[6]", "train.epochs=1", "train.augment=[]", "train.batch_size=8"]


def _npz(path, num_classes=4, *, first=0, shape=(5, 5), seed=0):
    """Write images of some classes, each with a pattern of its own, and return the path."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", 8), ("test", 4)):
        labels = np.arange(num_classes).repeat(count)
        images = rng.integers(0, 60, (len(labels), *shape))
        images[np.arange(len(labels)), labels] += 150
        arrays[f"{split}_images"] = images.astype(np.uint8)
        arrays[f"{split}_labels"] = labels + first
    np.savez(path, **arrays)
    return path


@pytest.fixture
def workplace(tmp_path):
    return Workplace(tmp_path / "cache", "cpu", progress=Progress())


def _prepared(path, workplace, *overrides, preset="digits"):
    run = RunDir(path)
    with run.lock():
        prepare(run, resolve(preset, [*TINY, *overrides]), workplace)
    return run


def _trained(run, workplace, until=None):
    with run.lock():
        run_steps(RunContext(run, workplace), until=until, on_step=lambda *_: None)
    return run


def _extended(run, workplace, *overrides, preset=None):
    with run.lock():
        return extend(run, preset, overrides, workplace)


def _tensors(run):
    return {
        path.relative_to(run.path).as_posix(): load_file(path)
        for path in sorted(run.path.glob("task-*/*.safetensors"))
    }


def _assert_same_tensors(one, other):
    mine, theirs = _tensors(one), _tensors(other)
    assert mine.keys() == theirs.keys()
    for name, tensors in mine.items():
        assert tensors.keys() == theirs[name].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, theirs[name][key]), (name, key)


def _bytes(run, *but):
    return {
        path.relative_to(run.path).as_posix(): path.read_bytes()
        for path in sorted(run.path.rglob("*"))
        if path.is_file()
        and path.name not in ("log.txt", *but)
        and not path.name.startswith(".lock-")
    }


FEW = ["data.limit_per_class=5"]
ROTATED = [*FEW, "data.protocol=rotated"]
WAYS = {
    "classes of one data set": (
        [*NPZ, "data.path={a}", "data.num_tasks=3", "data.classes_per_task=1"],
        [*NPZ, "data.path={a}", "data.num_tasks=1", "data.classes_per_task=1"],
        [["data.num_tasks=1"], ["data.num_tasks=1"]],
    ),
    "another data set": (
        ["data.source=sequence", "data.sources=[{{source: npz, path: {a}}},"
         " {{source: npz, path: {b}, classes_per_task: 3}}]"],
        [*NPZ, "data.path={a}", "data.classes_per_task=2"],
        [["data.path={b}", "data.classes_per_task=3"]],
    ),
    "permutations under one head": (
        [*FEW, "data.num_tasks=3", "net.heads=shared"],
        [*FEW, "data.num_tasks=2", "net.heads=shared"],
        [["data.num_tasks=1"]],
    ),
    "rotations": (
        [*ROTATED, "data.num_tasks=3", "data.max_angle=90"],
        [*ROTATED, "data.num_tasks=2", "data.max_angle=60"],
        [["data.num_tasks=1"]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_run_extended_ends_with_the_tensors_of_one_that_knew_all_tasks(
    tmp_path, workplace, way, is_finished
):
    whole, base, extensions = WAYS[way]
    paths = {"a": _npz(tmp_path / "a.npz"), "b": _npz(tmp_path / "b.npz", 3, seed=1)}
    fill = lambda words: [word.format(**paths) for word in words]  # noqa: E731
    expected = _trained(_prepared(tmp_path / "whole", workplace, *fill(whole)), workplace)
    run = _prepared(tmp_path / "run", workplace, *fill(base))
    for words in extensions:
        if is_finished:
            _trained(run, workplace)
        before = _bytes(run, "run.json")
        _extended(run, workplace, *fill(words))
        assert _bytes(run, "run.json") == before
    _trained(run, workplace)
    _assert_same_tensors(run, expected)
    final = (read_run(each.path).task_incremental.rows for each in (run, expected))
    assert next(final) == next(final)


@pytest.mark.parametrize("method", ["gpm", "trgp", "er", "hat", "halrp", "joint"])
def test_every_kind_of_memory_goes_on_with_appended_tasks(tmp_path, workplace, method):
    words = [*FEW, f"method.name={method}", "train.epochs=2"]
    expected = _prepared(tmp_path / "expected", workplace, *words, "data.num_tasks=2")
    run = _trained(_prepared(tmp_path / "run", workplace, *words, "data.num_tasks=1"), workplace)
    _extended(run, workplace, "data.num_tasks=1")
    _assert_same_tensors(_trained(run, workplace), _trained(expected, workplace))


def test_what_was_done_stays_done_and_keeps_its_bytes(tmp_path, workplace):
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=2", "data.limit_per_class=5")
    _trained(run, workplace)
    before = _bytes(run, "run.json")
    _extended(run, workplace, "data.num_tasks=2", "train.epochs=3")
    state = read_state(run)
    assert [step.status for step in state.steps] == ["done"] * 6 + ["pending"] * 6
    assert state.next_command() == f"ness train-task {run.path}"
    _trained(run, workplace)
    after = _bytes(run, "run.json")
    assert {name: after[name] for name in before} == before
    records = [read_state(run).of(task, "train").record for task in (2, 3, 4)]
    assert [record["epochs"] for record in records] == [1, 3, 3]
    assert len({record["fingerprint"] for record in records}) == 2
    # What is typed for a run that exists goes on as for any other.
    with run.lock():
        again = resolve_again(yaml_files.read(run.settings), read_run_record(run), [], None)
        assert len(prepare(run, again, workplace).manifest["tasks"]) == 4
    assert _bytes(run, "run.json") == after
    assert read_state(run).next() is None


def test_status_and_report_tell_what_was_added_with_what(tmp_path, workplace):
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=1", "data.limit_per_class=5")
    _extended(run, workplace, "data.num_tasks=2", "train.epochs=3")
    words = "tasks 2 to 3: added with data.num_tasks=2 train.epochs=3"
    assert words in read_run(run.path).notes
    (told,) = read_status(run.path).document()["extensions"]
    assert told["typed"] == ["data.num_tasks=2", "train.epochs=3"]
    assert (told["first_task"], told["settings"]["train"]["epochs"]) == (2, 3)


def test_killed_before_the_one_file_is_replaced_the_run_is_as_it_was(
    tmp_path, workplace, monkeypatch
):
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=1", "data.limit_per_class=5")
    before = _bytes(run)
    with monkeypatch.context() as patch:

        def killed(path, value):
            raise KeyboardInterrupt

        patch.setattr(stage, "write_record", killed)
        with pytest.raises(KeyboardInterrupt):
            _extended(run, workplace, "data.num_tasks=1")
    assert _bytes(run) == before
    _extended(run, workplace, "data.num_tasks=1")
    assert read_state(run).num_tasks == 2


def test_tasks_are_taken_back_as_far_as_nothing_was_trained(tmp_path, workplace):
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=1", "data.limit_per_class=5")
    prepared = read_run_record(run)
    with pytest.raises(InputError, match="was not extended"):
        take_back(run)
    _extended(run, workplace, "data.num_tasks=2")
    assert take_back(run) == (2, 3)
    assert read_run_record(run) == {**prepared, "extensions": []}
    _extended(run, workplace, "data.num_tasks=2")
    _trained(run, workplace, until=2)
    done = _bytes(run, "run.json")
    assert take_back(run) == (3,)
    with pytest.raises(InputError, match="training of task 2, the last one, has begun"):
        take_back(run)
    assert read_state(run).next() is None
    assert _bytes(run, "run.json") == done
    _extended(run, workplace, "data.num_tasks=1")
    names = [task["name"] for task in plan_extension(run, None, ["data.num_tasks=1"], workplace)
             .manifest["tasks"]]  # fmt: skip
    assert names == ["permutation-4"]
    assert read_state(run).num_tasks == 3
    assert read_state(run).of(2, "train").is_done


def test_a_plan_writes_nothing(tmp_path, workplace):
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=1", "data.limit_per_class=5")
    before = _bytes(run)
    planned = plan_extension(run, None, ["data.num_tasks=2"], workplace)
    assert [task["number"] for task in planned.manifest["tasks"]] == [2, 3]
    assert _bytes(run) == before
    assert len(list((tmp_path / "cache").glob("*/stream.json"))) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=2", "train.lr=0.1"], r"^seed: belongs to the whole run"),
        (["net.hidden=[4]", "method.name=gpm", "data.num_tasks=1"], r"^net\.hidden, method\.name"),
        (["data.num_task=1"], r"^data\.num_task: unknown key; did you mean"),
        (["data.pth=may.zip"], r"^data\.pth: unknown key; did you mean 'data\.path'\?"),
        (["nonsense=3"], r"^nonsense: unknown key"),
        (["train.epoch=3"], r"^train\.epoch: unknown key; did you mean 'train\.epochs'"),
        (["trian.epochs=3"], r"^trian\.epochs: unknown key; did you mean 'train\.epochs'"),
        (["method.nam=gpm"], r"^method\.nam: unknown key; did you mean"),
        (["method=gpm"], r"^method: belongs to the whole run"),
        (["data=may.zip"], r"^data: 'may\.zip' should be a group of settings"),
        (["train.epochs=5"], "nothing says which tasks"),
        (["data.num_tasks=0"], "at least 1"),
        ([], "nothing says which tasks"),
    ],
)
def test_what_cannot_be_appended_is_refused_with_its_key(tmp_path, workplace, overrides, message):
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=1", "data.limit_per_class=5")
    before = _bytes(run)
    with pytest.raises(SettingsError, match=message):
        _extended(run, workplace, *overrides)
    assert _bytes(run) == before


def test_a_data_set_without_classes_left_says_so(tmp_path, workplace):
    path = _npz(tmp_path / "a.npz")
    run = _prepared(tmp_path / "run", workplace, *NPZ, f"data.path={path}")
    with pytest.raises(SettingsError, match="have all classes"):
        _extended(run, workplace, "data.num_tasks=1")


def test_images_of_another_size_are_refused_or_resized_as_the_run_says(tmp_path, workplace):
    path, large = _npz(tmp_path / "a.npz"), _npz(tmp_path / "b.npz", shape=(7, 7))
    run = _prepared(tmp_path / "run", workplace, *NPZ, f"data.path={path}")
    with pytest.raises(SettingsError, match="1 x 7 x 7, those of the run 1 x 5 x 5") as refused:
        _extended(run, workplace, f"data.path={large}")
    assert "data.size=5" in refused.value.remedy
    _extended(run, workplace, f"data.path={large}", "data.size=5")
    sized = _prepared(*(tmp_path / "sized", workplace, *NPZ, f"data.path={path}", "data.size=6"))
    _extended(sized, workplace, f"data.path={large}")
    assert RunContext(sized, workplace).stream.split(3, "train").images.shape[1:] == (1, 6, 6)


def test_channels_are_those_of_the_first_tasks(tmp_path, workplace):
    grey, colour = _npz(tmp_path / "grey.npz"), _npz(tmp_path / "colour.npz", shape=(5, 5, 3))
    run = _prepared(tmp_path / "run", workplace, *NPZ, f"data.path={grey}")
    with pytest.raises(SettingsError, match="3 x 5 x 5") as refused:
        _extended(run, workplace, f"data.path={colour}")
    assert "data.channels=grey" in refused.value.remedy
    _extended(run, workplace, f"data.path={colour}", "data.channels=grey")
    other = _prepared(tmp_path / "other", workplace, *NPZ, f"data.path={colour}")
    _extended(other, workplace, f"data.path={grey}")
    assert RunContext(other, workplace).stream.split(3, "train").images.shape[1:] == (3, 5, 5)


def test_one_head_takes_the_same_classes_only(tmp_path, workplace):
    path = _npz(tmp_path / "a.npz", shape=(8, 8))
    few = ("data.num_tasks=2", "data.limit_per_class=5")
    run = _prepared(tmp_path / "run", workplace, *few, "net.heads=shared")
    with pytest.raises(SettingsError, match=r"net\.heads"):
        _extended(run, workplace, *NPZ, f"data.path={path}")
    permuted = ["data.protocol=permuted", "data.num_tasks=1"]
    with pytest.raises(SettingsError, match="the one head knows 10 classes"):
        _extended(run, workplace, *NPZ, f"data.path={path}", *permuted)


def test_classes_of_known_names_are_noted(tmp_path, workplace):
    paths = [_npz(tmp_path / f"{seed}.npz", seed=seed) for seed in (0, 1)]
    run = _prepared(tmp_path / "run", workplace, *NPZ, f"data.path={paths[0]}")
    extended = _extended(run, workplace, f"data.path={paths[1]}")
    (note,) = [note for note in extended.notes if "knows" in note]
    assert "'0' (task 1)" in note
    assert "'3' (task 2)" in note


def test_a_path_after_a_public_data_set_means_images_of_ones_own(tmp_path, workplace):
    for split, count in (("train", 4), ("test", 2)):
        for name in ("ash", "oak"):
            folder = tmp_path / "leaves" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.full((8, 8), 20 * index + (90 if name == "oak" else 0), np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=1", "data.limit_per_class=5")
    words = [f"data.path={tmp_path / 'leaves'}", "data.classes_per_task=2"]
    (task,) = _extended(run, workplace, *words).manifest["tasks"]
    assert (task["name"], task["classes"]) == ("image-folder", ["ash", "oak"])


def test_the_data_of_a_preset_is_appended_and_nothing_else_of_it(tmp_path, workplace):
    file = tmp_path / "more.yaml"
    path = _npz(tmp_path / "b.npz", 2, shape=(8, 8))
    values = {"data": {"source": "npz", "path": str(path)}, "train": {"epochs": 7}}
    file.write_text(yaml_files.dump(values))
    run = _prepared(tmp_path / "run", workplace, "data.num_tasks=1", "data.limit_per_class=5")
    _extended(run, workplace, preset=str(file))
    settings = RunContext(run, workplace).settings_of(2)
    assert (settings.data.source, settings.train.epochs) == ("npz", 1)


def test_old_images_may_be_gone_and_every_table_says_so(tmp_path, workplace):
    old, new = _npz(tmp_path / "a.npz"), _npz(tmp_path / "b.npz", 2, seed=1)
    run = _prepared(tmp_path / "run", workplace, *NPZ, f"data.path={old}")
    _trained(run, workplace)
    old.unlink()
    shutil.rmtree(workplace.cache)
    _extended(run, workplace, f"data.path={new}")
    notes = Notes()
    with run.lock():
        own = Workplace(workplace.cache, "cpu", progress=notes)
        again = resolve_again(yaml_files.read(run.settings), read_run_record(run), [], None)
        prepare(run, again, own)
        run_steps(RunContext(run, own), until=None, on_step=lambda *_: None)
    assert any("goes on without them" in text for text in notes.texts)
    assert any("tasks 1 to 2: the test images are gone" in text for text in notes.texts)
    matrix = read_run(run.path).task_incremental
    assert matrix.final[:2] == (None, None)
    assert (matrix.scored, matrix.acc, matrix.bwt) == ((3,), matrix.final[2], None)
    assert read_state(run).next() is None


def test_images_that_are_needed_are_asked_for(tmp_path, workplace):
    old, new = _npz(tmp_path / "a.npz"), _npz(tmp_path / "b.npz", 2, seed=1)
    run = _prepared(tmp_path / "run", workplace, *NPZ, f"data.path={old}")
    _extended(run, workplace, f"data.path={new}")
    old.unlink()
    shutil.rmtree(workplace.cache)
    again = resolve_again(yaml_files.read(run.settings), read_run_record(run), [], None)
    with run.lock(), pytest.raises(MissingFilesError, match=r"a\.npz"):
        prepare(run, again, workplace)
    _npz(old)
    new.unlink()
    with run.lock(), pytest.raises(MissingFilesError, match=r"b\.npz"):
        prepare(run, again, workplace)
    _npz(new, 2, seed=2)
    with run.lock(), pytest.raises(InputError, match="task 3 were prepared from other files"):
        prepare(run, again, workplace)
    _npz(new, 2, seed=1)
    with run.lock():
        prepare(run, again, workplace)
    _trained(run, workplace)


def test_a_task_in_training_goes_on_when_others_are_appended(tmp_path, workplace):
    words = ["data.num_tasks=2", "data.limit_per_class=5", "train.epochs=2", "checkpoint.seconds=0"]
    plain = _trained(_prepared(tmp_path / "plain", workplace, *words), workplace)
    run = _prepared(tmp_path / "run", workplace, *words)
    _trained(run, workplace, until=1)

    stop = StopRequest()
    stop.request("SIGTERM")
    with run.lock(), pytest.raises(StoppedError):
        train_task(RunContext(run, Workplace(workplace.cache, "cpu", stop=stop)))
    assert run.task(2).checkpoint.exists()
    _extended(run, workplace, "data.num_tasks=1")
    assert read_state(run).of(2, "train").status == "started"
    _trained(run, workplace, until=2)
    _assert_same_tensors(run, plain)


def test_a_program_that_loads_the_run_gets_the_new_tasks(tmp_path, workplace):
    words = [*FEW, "data.num_tasks=1", "net.heads=shared"]
    run = _prepared(tmp_path / "run", workplace, *words)
    _extended(run, workplace, "data.num_tasks=1")
    _trained(run, workplace)
    model = ness_cli.load(run.path, task=2, device="cpu")
    # As stored: the second permutation is applied to what comes in.
    whole = RunContext(run, workplace).stream
    upright = _prepared(tmp_path / "upright", workplace, *FEW, "data.protocol=rotated",
                        "data.num_tasks=1")  # fmt: skip
    plain = RunContext(upright, workplace).stream.split(1, "test")
    assert torch.equal(plain.labels, whole.split(2, "test").labels)
    right = (model(plain.images).argmax(dim=1) == plain.labels).double().mean()
    row = read_run(run.path).task_incremental.rows[1]
    assert float(100 * right) == pytest.approx(row[1])
