from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from ness_cli import files, tensor_files
from ness_cli.errors import DamagedError, SystemRefusedError
from ness_cli.files import read_json, whole_folder, write_bytes, write_record
from ness_cli.run_dir import RunDir


def _full(*_args):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["open", "fsync"])
def test_a_full_disk_is_named_with_the_file_and_its_bytes(tmp_path, monkeypatch, call):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")
    with monkeypatch.context() as refused:
        refused.setattr({"open": Path, "fsync": os}[call], call, lambda *_, **__: _full())
        with pytest.raises(OSError, match="No space left on device; 5 bytes") as found:
            write_bytes(path, b"12345")
    assert (found.value.errno, found.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_refused_folder_keeps_its_kind_of_error(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/.tmp.x")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError) as found:
        tensor_files.write(tmp_path / "basis.safetensors", {}, {})
    assert found.value.filename == str(tmp_path / "basis.safetensors")


def test_a_record_is_what_was_written_or_damage(tmp_path):
    path = tmp_path / "train.json"
    value = {"a": 1.5, "b": [1, "größe", None], "c": {10: 1, 9: 2}, "d": float("inf")}
    write_record(path, value)
    assert read_json(path, remedy="") == json.loads(json.dumps(value))
    text = path.read_text()
    for old, new in (
        ("1.5", "2.5"),
        ('"a"', '"x"'),
        ("null", "true"),
        ('"9"', '"8"'),
        ('"seal"', '"peal"'),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(DamagedError, match="not what was written"):
            read_json(path, remedy="")


def test_a_record_of_an_earlier_version_has_no_seal(tmp_path):
    path = tmp_path / "train.json"
    path.write_text('{"a": 1}')
    assert read_json(path, remedy="") == {"a": 1}


def test_a_record_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.Path, "read_bytes", refuse)
    with pytest.raises(SystemRefusedError, match="cannot be read: Permission denied"):
        read_json(tmp_path / "train.json", remedy="ness train-task --force")


def test_every_folder_that_is_made_is_on_the_disk_with_what_is_in_it(tmp_path, monkeypatch):
    flushed, fsync = [], os.fsync

    def note(handle):
        flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", note)
    write_bytes(tmp_path / "a" / "b" / "file", b"12345")
    assert {tmp_path, tmp_path / "a", tmp_path / "a" / "b"} <= set(flushed)
    flushed.clear()
    with whole_folder(tmp_path / "whole") as folder:
        (folder / "file").write_bytes(b"12345")
    assert {folder, folder / "file", tmp_path} <= set(flushed)


@pytest.mark.parametrize("durable", [True, False])
def test_it_waits_for_the_disk_only_if_asked_to(tmp_path, monkeypatch, durable):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_bytes(tmp_path / "a", b"new", durable=durable)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert bool(synced) == durable


def test_a_folder_appears_as_a_whole_or_not_at_all(tmp_path):
    (tmp_path / ".out.killed.tmp").mkdir()

    def stop_halfway():
        with files.whole_folder(tmp_path / "out") as folder:
            (folder / "half").write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        stop_halfway()
    assert not list(tmp_path.iterdir())
    with files.whole_folder(tmp_path / "out") as folder:
        (folder / "whole").write_text("whole")
        assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "whole").read_text() == "whole"


def test_files_and_folders_are_as_open_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"1")
        with files.whole_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")]
    assert modes == [0o640, 0o750]


def test_a_folder_that_somebody_else_is_writing_is_no_leftover(tmp_path):
    with files.whole_folder(tmp_path / "model.v2") as other:
        (other / "file").write_text("whole")
        with files.whole_folder(tmp_path / "model"), files.whole_folder(tmp_path / "model*"):
            pass
    assert (tmp_path / "model.v2" / "file").read_text() == "whole"


def test_what_killed_writes_left_in_a_run_does_not_keep_it_from_being_opened(tmp_path):
    run = RunDir(tmp_path)
    (tmp_path / "task-01").mkdir()
    leftover = tmp_path / "task-01" / ".model.safetensors.abc.tmp"
    leftover.write_bytes(b"half")
    # As an export or a fork into the run leaves it.
    half_made = tmp_path / ".export.abc.tmp"
    half_made.mkdir()
    with run.lock():
        assert not leftover.exists()
    with files.whole_folder(tmp_path / "export"):
        assert not half_made.exists()
