"""Where files of public data sets are looked for, and where they are put."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from pathlib import Path

import pytest

from ness_cli.console import Progress
from ness_cli.data.formats.download import PublicFile, find_or_fetch
from ness_cli.errors import InputError, MissingFilesError, SettingsError, SystemRefusedError
from ness_cli.settings.sources.base import PublicSettings

NAME, UNPACKED = "set.tar.gz", "set"


def _file(web: Path, name: str = NAME, unpacked: str = UNPACKED) -> PublicFile:
    web.mkdir(exist_ok=True)
    (web / name).write_bytes(b"content")
    md5 = hashlib.md5(b"content").hexdigest()
    return PublicFile(name, (web / name).as_uri(), md5, unpacked)


def _fetch(files: list[PublicFile], path: object, **more) -> list[Path]:
    options = PublicSettings(source="it", path=str(path))
    return find_or_fetch(files, options, Progress(), title="It", **more)


@pytest.mark.parametrize("folders", [(), ("SET/raw",)])
@pytest.mark.parametrize("name", [NAME, UNPACKED])
def test_a_path_that_names_the_file_is_no_folder(tmp_path, name, folders):
    file = _file(tmp_path / "web")
    expected = [tmp_path / "data" / NAME]
    for _ in range(2):
        assert _fetch([file], tmp_path / "data" / name, folders=folders) == expected
    assert [path.name for path in (tmp_path / "data").iterdir()] == [NAME]


def test_a_folder_with_the_name_of_the_archive_is_looked_into(tmp_path):
    file = _file(tmp_path / "web")
    place = tmp_path / "data" / NAME
    place.mkdir(parents=True)
    assert _fetch([file], place) == [place / NAME]


@pytest.mark.parametrize("folders", [(), ("SET/raw",)])
def test_a_folder_in_the_place_of_the_archive_is_one_clear_line(tmp_path, folders):
    file = _file(tmp_path / "web", unpacked="")
    place = tmp_path.joinpath("data", *folders, NAME)
    place.mkdir(parents=True)
    with pytest.raises(InputError, match=f"{NAME} is a folder, and stands where") as error:
        _fetch([file], tmp_path / "data", folders=folders)
    assert "rename it" in error.value.remedy
    assert [path.name for path in place.parent.iterdir()] == [NAME]


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        name = "part"

        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    file = _file(tmp_path / "web")
    opened = Path.open

    def full_when_written(path, mode="r", *more):
        if mode == "xb":
            opened(path, mode, *more).close()
            return Full()
        return opened(path, mode, *more)

    monkeypatch.setattr(Path, "open", full_when_written)
    with pytest.raises(SystemRefusedError, match="cannot be written: No space left"):
        _fetch([file], tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_the_folder_named_is_the_one_that_is_read(tmp_path):
    file = _file(tmp_path / "web")
    (tmp_path / UNPACKED).mkdir()
    (tmp_path / NAME).write_bytes(b"content")
    assert _fetch([file], tmp_path / UNPACKED) == [tmp_path / UNPACKED]
    assert _fetch([file], tmp_path) == [tmp_path / NAME]


@pytest.mark.parametrize("path", [".", "", "./"])
def test_the_current_folder_is_a_folder(tmp_path, monkeypatch, path):
    file = _file(tmp_path / "web", unpacked="")
    monkeypatch.chdir(tmp_path / "web")
    assert _fetch([file], path) == [Path(NAME)]


def test_files_lie_beside_the_one_named(tmp_path):
    files = [_file(tmp_path / "web", name, "") for name in ("a", "b")]
    assert _fetch(files, tmp_path / "web" / "b") == [tmp_path / "web" / each for each in "ab"]


def test_a_file_unpacked_into_a_folder_of_its_name_is_found(tmp_path):
    file = _file(tmp_path / "web")
    (tmp_path / "data" / UNPACKED).mkdir(parents=True)
    (tmp_path / "data" / UNPACKED / UNPACKED).write_bytes(b"content")
    assert _fetch([file], tmp_path / "data") == [tmp_path / "data" / UNPACKED / UNPACKED]


def test_what_was_downloaded_is_not_called_absent(tmp_path):
    files = [_file(tmp_path / "web", name, "") for name in ("one", "two")]
    (tmp_path / "web" / "two").unlink()
    with pytest.raises(MissingFilesError, match="It: two not in") as error:
        _fetch(files, tmp_path / "data")
    assert "one" not in error.value.remedy


def test_downloads_are_as_open_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        (path,) = _fetch([_file(tmp_path / "web")], tmp_path / "data")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("length", ["abc", None, "-5", "7"])
def test_a_length_that_is_no_number_is_left_out(tmp_path, monkeypatch, length):
    from ness_cli.data.formats import download

    file = _file(tmp_path / "web")
    stream = (tmp_path / "web" / NAME).open("rb")
    answer = type("Answer", (), {"headers": {"Content-Length": length}, "read": stream.read})
    answer.__enter__, answer.__exit__ = lambda self: self, lambda *_: stream.close()
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: answer())
    assert _fetch([file], tmp_path / "data") == [tmp_path / "data" / NAME]


@pytest.mark.parametrize("source", ["svhn", "npz", "mini-imagenet", "notmnist", "torchvision"])
def test_nobodys_home_is_no_place(source):
    from ness_cli import registry
    from ness_cli.data.stream_manifest import plan

    kind = registry.load_class(
        "ness_cli.settings.sources", source, setting="test", attribute="Options"
    )
    more = {"dataset": "DTD"} if source == "torchvision" else {}
    options = kind.model_validate({"path": "~nosuchuser/x", "split_seed": 0, **more})
    with pytest.raises(SettingsError, match="~nosuchuser/x: the home"):
        plan(options)
