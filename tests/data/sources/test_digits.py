from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits

from ness_cli import seeding
from ness_cli.console import Progress
from ness_cli.data.store import prepare
from ness_cli.data.task_stream import TaskStream
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.digits import Options


def _open(cache, **more) -> TaskStream:
    return TaskStream(prepare(Options(**more), cache, Progress()), cache, remedy="do this")


def test_undoing_the_permutation_gives_every_task_the_same_real_digits(tmp_path):
    stream = _open(tmp_path)
    assert stream.num_tasks == 10
    plain = []
    for task in (1, 2, 10):
        generator = seeding.generator(0, "permutation", task)
        order = torch.randperm(64, generator=generator)
        images = stream.split(task, "test").images.flatten(1)
        undone = torch.empty_like(images)
        undone[:, order] = images
        plain.append(undone)
    assert torch.equal(plain[0], plain[1])
    assert torch.equal(plain[0], plain[2])
    known = {tuple(row) for row in (load_digits().data * 255 / 16).round().astype(int).tolist()}
    assert all(tuple(row) in known for row in plain[0].tolist())


def test_the_splits_are_disjoint_and_all_there_is(tmp_path):
    stream = _open(tmp_path)
    counts = [len(stream.split(1, name).labels) for name in ("train", "valid", "test")]
    assert sum(counts) == 1797
    rows = torch.cat([stream.split(1, name).images for name in ("train", "valid", "test")])
    assert len(set(map(tuple, rows.flatten(1).tolist()))) == len(
        set(map(tuple, load_digits().data.tolist()))
    )


def test_split_digits_are_five_pairs(tmp_path):
    stream = _open(tmp_path, protocol="split")
    assert [stream.info(t).classes for t in range(1, 6)] == [
        ("0", "1"),
        ("2", "3"),
        ("4", "5"),
        ("6", "7"),
        ("8", "9"),
    ]
    assert set(stream.split(3, "train").labels.tolist()) == {0, 1}
    with pytest.raises(SettingsError, match=r"data\.num_tasks: 6"):
        _open(tmp_path, protocol="split", num_tasks=6)


def test_another_split_seed_is_another_stream(tmp_path):
    assert _open(tmp_path).key != _open(tmp_path, split_seed=1).key


def test_a_missing_file_names_the_remedy(tmp_path):
    stream = _open(tmp_path)
    (tmp_path / stream.key[:32] / "task-03-valid.safetensors").unlink()
    stream.split(3, "train")
    with pytest.raises(InputError) as error:
        stream.split(3, "valid")
    assert error.value.remedy == "do this"
    with pytest.raises(InputError, match="11"):
        stream.split(11, "train")


def test_two_processes_may_prepare_at_once(processes, tmp_path):
    program = (
        "import sys; from pathlib import Path; from ness_cli.console import Progress;"
        "from ness_cli.data.store import prepare;"
        "from ness_cli.settings.sources.digits import Options;"
        "print(prepare(Options(num_tasks=40), Path(sys.argv[1]), Progress())['key'])"
    )
    both = processes.python(program, tmp_path, size=2)
    assert [ended.code for ended in both] == [0, 0]
    assert both[0].out == both[1].out != ""
