"""The folder of a study whose files are damaged: named, with what writes them anew."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from ness_cli import registry
from ness_cli.cli.app import app
from ness_cli.errors import DamagedError, InputError, NessError, SystemRefusedError
from ness_cli.settings.study_files import read_study
from ness_cli.study import choice
from ness_cli.study.engines.base import Job
from ness_cli.study.folder import StudyFolder, job_seconds, study_folder
from ness_cli.study.search import JOURNAL, results_in


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: digits\nseeds: [1]\nrows: {plain: []}\n")
    found = StudyFolder(tmp_path / "study")
    found.remember(read_study(path), engine="local", device="cpu")
    return found


def _refusal(folder):
    with pytest.raises(NessError) as found:
        study_folder(folder.path).remembered()
    assert found.value.exit_code in (4, 5)
    return found.value


def test_what_was_remembered_reads_back(folder):
    study, how = study_folder(folder.path).remembered()
    assert list(study.settings.combinations) == ["plain"]
    assert (how["engine"], how["device"]) == ("local", "cpu")


def test_any_other_byte_of_a_study_is_found_and_the_same_command_writes_it_anew(folder):
    whole = folder.settings.read_bytes()
    study, _ = folder.remembered()
    for place in range(0, len(whole), 7):
        other = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
        folder.settings.write_bytes(other)
        error = _refusal(folder)
        assert (
            error.what
            == f"{folder.settings} is damaged: it is not what was written with study.json"
        )
        assert error.remedy.startswith(f"ness study run FILE --out {folder.path}")
    folder.remember(study, engine="local", device="cpu")
    assert folder.settings.read_bytes() == whole
    folder.record.write_bytes(folder.record.read_bytes().replace(b"cpu", b"cpv"))
    assert "study.json is damaged" in _refusal(folder).what


def test_killed_while_another_study_is_remembered_the_folder_has_the_one_before(
    folder, tmp_path, monkeypatch
):
    others = []
    for name in ("second", "third"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(f"base: digits\nseeds: [1]\nrows: {{{name}: []}}\n")
        others.append(read_study(path))
    with monkeypatch.context() as patch:
        patch.setattr("ness_cli.study.folder.write_bytes", lambda *_: None)  # killed before
        for study in others:
            folder.remember(study, engine="local", device="cpu")
            assert list(folder.remembered()[0].settings.combinations) == ["plain"]
        folder.settings.write_bytes(folder.settings.read_bytes() + b"\n")
        assert isinstance(_refusal(folder), DamagedError)
        folder.remember(others[0], engine="local", device="cpu")
        assert isinstance(_refusal(folder), DamagedError)  # nor believed because it was there
    for _ in range(2):
        folder.remember(others[1], engine="local", device="cpu")
        assert list(folder.remembered()[0].settings.combinations) == ["third"]
    assert "replaces" not in json.loads(folder.record.read_text())  # not the study before itself


def test_a_study_of_an_earlier_version_is_read_and_settings_that_are_none_are_damaged(folder):
    record = json.loads(folder.record.read_text())
    folder.record.write_text(json.dumps({k: record[k] for k in ("engine", "device")}))
    folder.remembered()
    folder.settings.write_text("seeds: x\n")
    assert isinstance(_refusal(folder), DamagedError)
    folder.record.write_text(json.dumps({"engine": "../x", "device": "cpu"}))
    assert "engine is '../x'" in _refusal(folder).what
    folder.record.write_text(json.dumps({"engine": "local", "device": "cpu", "replaces": []}))
    assert "replaces is []" in _refusal(folder).what


def test_settings_that_the_system_lets_nobody_read_are_no_damage(folder, monkeypatch):
    read = Path.read_bytes

    def refused(path):
        if path == folder.settings:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(SystemRefusedError, match=r"study\.yaml cannot be read: Input/output error"):
        folder.remembered()


def test_a_run_that_the_system_lets_nobody_read_ends_the_status_when_all_is_shown(
    folder, monkeypatch
):
    record = folder.run("plain/seed-1").run
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    read = Path.read_bytes

    def refused(path):
        if path == record:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    ended = CliRunner().invoke(app, ["study", "status", str(folder.path)])
    assert ended.exit_code == 8
    assert "plain/seed-1  failed" in ended.stdout
    assert "run.json cannot be read: Input/output error" in ended.stderr.replace("\n", " ")


def test_an_engine_of_a_plug_in_may_have_been_typed_with_either_kind_of_hyphen(folder, monkeypatch):
    study, _ = folder.remembered()
    monkeypatch.setattr(registry, "names", lambda _: ["local", "my-cloud"])
    for typed in ("my-cloud", "my_cloud"):
        folder.remember(study, engine=typed, device="cpu")
        assert folder.remembered()[1]["engine"] == typed


def test_what_is_no_file_is_neither_read_nor_replaced(folder):
    study, _ = folder.remembered()
    for path in (folder.record, folder.settings):
        whole = path.read_bytes()
        path.unlink()
        for make, remove in ((os.mkdir, os.rmdir), (os.mkfifo, os.unlink)):
            make(path)
            error = _refusal(folder)
            assert str(path) in error.what
            assert "remove it, then" in error.remedy
            with pytest.raises(InputError, match="in its place"):
                folder.remember(study, engine="local", device="cpu")
            remove(path)
        assert f"{path} is missing" in _refusal(folder).what
        path.write_bytes(whole)
    shutil.rmtree(folder.path)
    with pytest.raises(InputError, match="is not the folder of a study"):
        study_folder(folder.path)


def test_a_pipe_in_the_place_of_a_journal_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / JOURNAL)
    with pytest.raises(InputError, match="is no file"):
        results_in(tmp_path)


def test_a_search_whose_folder_is_refused_has_no_journal_yet(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("base: digits\nseeds: [1]\nsearch: {space: {train.lr: [0.1]}, trials: 1}\n")
    out = tmp_path / "tuned"
    (out / "study.json").mkdir(parents=True)
    found = CliRunner().invoke(app, ["tune", str(path), "--out", str(out)])
    assert found.exit_code == 4, found.stderr
    assert f"{out / 'study.json'} is no file" in found.stderr.replace("\n", "")
    assert not (out / JOURNAL).exists()


def test_a_damaged_list_of_tested_choices_is_named_and_not_counted_anew(tmp_path):
    plan, path = SimpleNamespace(folder=StudyFolder(tmp_path)), tmp_path / choice.TEST
    assert choice._looks(plan, {"settings": ["train.lr=0.1"]}) == 1
    assert choice._looks(plan, {"settings": ["train.lr=0.2"]}) == 2
    assert choice._looks(plan, {"settings": ["train.lr=0.1"]}) == 2
    whole = path.read_bytes()
    damages = [b"", whole[:50], whole.replace(b"0.2", b"0.1"), b"\xff\0{", b"[]", b"null", b"{}"]
    damages += [b'{"tested": 3}', b'{"tested": [null]}', b'{"tested": [{"settings": 1}]}']
    for damage in damages:
        path.write_bytes(damage)
        with pytest.raises(DamagedError, match=r"test\.json is damaged") as refused:
            choice._looks(plan, {"settings": ["train.lr=0.3"]})
        assert "put it back" in refused.value.remedy
        assert path.read_bytes() == damage
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"test\.json is no file: a pipe"):
        choice._looks(plan, {"settings": ["train.lr=0.3"]})


@pytest.mark.parametrize("name", ["seed-1.exit", "seed-1.log"])
def test_a_pipe_in_the_place_of_a_log_or_an_exit_code_is_not_waited_for(folder, name):
    (folder.path / "plain").mkdir()
    os.mkfifo(folder.path / "plain" / name)
    if name == "seed-1.log":
        (folder.path / "plain" / "seed-1.exit").write_text("1\n")
    progress = folder.progress("plain/seed-1")
    assert progress.status == ("failed" if name == "seed-1.log" else "waiting")
    job = Job(
        "plain/seed-1", (), folder.run("plain/seed-1").path, folder.log("plain/seed-1"), Path()
    )
    if name == "seed-1.log":
        with pytest.raises(InputError, match="a pipe or a device is in its place"):
            job.open_log()
    else:
        job.open_log().close()
    assert job_seconds(folder.exit_code("plain/seed-1")) is None
