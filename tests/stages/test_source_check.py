"""A run goes on with the images it was prepared from, and with no others."""

from __future__ import annotations

import shutil
from pathlib import Path

import published_files
import pytest
import yaml
from factory import Notes
from PIL import Image
from rewrite import rewrite

from ness_cli.data import store as data_prepare
from ness_cli.data.formats import download
from ness_cli.errors import InputError, MissingFilesError
from ness_cli.run_dir import RunDir
from ness_cli.settings.resolve import resolve
from ness_cli.stages.prepare import Prepared, prepare
from ness_cli.workplace import Workplace


def _images(folder: Path, shade: int = 0) -> Path:
    for split in ("train", "test"):
        for number, name in enumerate(("a", "b")):
            workplace = folder / split / name
            workplace.mkdir(parents=True)
            for i in range(2):
                color = (40 * i + shade, 90 * number, 0)
                Image.new("RGB", (3, 3), color).save(workplace / f"{i}.png")
    return folder


class Run:
    """A run that is prepared as often as a test wants."""

    def __init__(self, tmp_path: Path, data: str) -> None:
        self.dir = RunDir(tmp_path / "run")
        self.dir.path.mkdir()
        self.cache = tmp_path / "cache"
        self.preset = tmp_path / "mine.yaml"
        self.preset.write_text(f"data: {{{data}, valid_fraction: 0}}\n")
        self.prepare()

    def edit(self, old: str, new: str, path: Path | None = None) -> None:
        """Replace a word of the preset, or of another file."""
        path = path or self.preset
        path.write_text(path.read_text().replace(old, new))

    def prepare(self, *overrides: str, verify_data: bool = False) -> Prepared:
        resolved = resolve(str(self.preset), ["net.hidden=[4]", *overrides])
        self.notes = Notes()
        workplace = Workplace(self.cache, "cpu", progress=self.notes)
        return prepare(self.dir, resolved, workplace, verify_data=verify_data)

    def recorded(self) -> dict:
        return yaml.safe_load(self.dir.settings.read_text())["data"]

    def files(self) -> dict[str, bytes]:
        names = (self.dir.settings, self.dir.run, self.dir.stream)
        return {path.name: path.read_bytes() for path in names}


def _folder(path: Path) -> str:
    return f"source: image-folder, path: {path}, classes_per_task: 1"


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path, _folder(_images(tmp_path / "before")))


@pytest.fixture
def sequence(tmp_path) -> Run:
    sets = [_folder(_images(tmp_path / name, shade)) for name, shade in (("one", 0), ("two", 9))]
    return Run(tmp_path, f"source: sequence, sources: [{{{sets[0]}}}, {{{sets[1]}}}]")


def test_other_images_are_refused_with_the_difference_and_change_nothing(run, tmp_path):
    before = run.files()
    other = _images(tmp_path / "new", shade=1)
    with pytest.raises(InputError, match="other files than those at hand") as error:
        run.prepare(f"data.path={other}")
    assert f"data.path: {other} instead of {tmp_path / 'before'} (SHA-256 " in error.value.what
    assert run.files() == before


def test_the_same_images_elsewhere_are_taken_and_recorded(run, tmp_path):
    new = tmp_path / "new"
    shutil.copytree(tmp_path / "before", new)
    assert run.prepare(f"data.path={new}").was_compared
    assert run.recorded()["path"] == str(new)
    shutil.rmtree(new)
    # What was compared once need not be there again.
    assert not run.prepare(f"data.path={new}").was_compared


def test_a_place_that_is_typed_and_not_there_is_refused(run, tmp_path):
    before = run.files()
    with pytest.raises(MissingFilesError, match="nowhere is not there, to be compared"):
        run.prepare(f"data.path={tmp_path / 'nowhere'}")
    assert run.files() == before


def test_a_place_that_only_a_preset_names_may_be_missing_and_is_not_recorded(run, tmp_path):
    run.edit("before", "nowhere")
    assert not run.prepare().was_compared
    assert any("goes on with the images that are prepared" in text for text in run.notes.texts)
    assert run.recorded()["path"] == str(tmp_path / "before")


def test_a_source_that_is_gone_is_not_missed(run, tmp_path):
    shutil.rmtree(tmp_path / "before")
    assert not run.prepare().was_compared
    with pytest.raises(MissingFilesError, match="before is not there"):
        run.prepare(verify_data=True)


def test_images_changed_in_place_are_found_on_request(run, tmp_path):
    assert run.prepare(verify_data=True).was_compared
    Image.new("RGB", (3, 3), (1, 2, 3)).save(tmp_path / "before" / "train" / "a" / "0.png")
    run.prepare()
    with pytest.raises(InputError, match=f"data.path: {tmp_path / 'before'} [(]SHA-256"):
        run.prepare(verify_data=True)


def test_settings_edited_by_hand_name_no_other_images_unnoticed(run, tmp_path):
    other = _images(tmp_path / "new", shade=1)
    run.edit("before", "new", run.dir.settings)
    run.edit("before", "new")
    with pytest.raises(InputError, match=f"{other} instead of"):
        run.prepare()


@pytest.mark.parametrize("missing", [("contents", "places"), ("content", "contents", "places")])
def test_a_run_of_an_older_version_is_compared_as_a_whole(run, tmp_path, missing):
    other = _images(tmp_path / "new", shade=1)
    shutil.copytree(tmp_path / "before", tmp_path / "copy")
    rewrite(run.dir.run, lambda record: [record.pop(key, None) for key in missing])
    with pytest.raises(InputError, match=f"{other} instead of"):
        run.prepare(f"data.path={other}")
    assert run.prepare(f"data.path={tmp_path / 'copy'}").was_compared


def test_of_a_sequence_only_what_has_moved_is_looked_at(sequence, tmp_path):
    shutil.rmtree(tmp_path / "two")
    shutil.move(tmp_path / "one", tmp_path / "three")
    sequence.edit("/one", "/three")
    assert sequence.prepare().was_compared
    assert sequence.recorded()["sources"][0]["path"] == str(tmp_path / "three")


def test_of_a_sequence_the_data_set_that_differs_is_named(sequence, tmp_path):
    _images(tmp_path / "four", shade=5)
    sequence.edit("/two", "/four")
    with pytest.raises(InputError, match=r"now: data\.sources\[1\]\.path: .*four instead of .*two"):
        sequence.prepare()


def test_nothing_is_downloaded_to_compare(tmp_path, monkeypatch):
    published_files.mnist(tmp_path / "data" / "MNIST" / "raw")
    run = Run(tmp_path, f"source: mnist, path: {tmp_path / 'data'}")
    monkeypatch.setattr(download.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(MissingFilesError, match="to be compared"):
        run.prepare(f"data.path={tmp_path / 'empty'}")
    assert not (tmp_path / "empty").exists()


# -- images that are gone from the cache ---------------------------------------------------------


def test_images_gone_from_the_cache_are_made_again_from_the_same_files_only(run, tmp_path):
    before = run.files()["stream.json"]
    shutil.rmtree(run.cache)
    assert run.prepare().was_there
    assert run.files()["stream.json"] == before
    shutil.rmtree(run.cache)
    Image.new("RGB", (3, 3), (1, 2, 3)).save(tmp_path / "before" / "train" / "a" / "0.png")
    with pytest.raises(InputError, match="other files than those at hand"):
        run.prepare()
    assert not list(run.cache.glob("*/stream.json"))
    shutil.rmtree(tmp_path / "before")
    with pytest.raises(
        MissingFilesError, match="must be prepared again: they are not in the cache"
    ):
        run.prepare()


def test_a_run_prepared_in_an_older_format_keeps_its_key(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(data_prepare, "_FORMATS", (2,))
        run = Run(tmp_path, _folder(_images(tmp_path / "before")))
    before = run.files()["stream.json"]
    shutil.rmtree(run.cache)
    run.prepare()
    assert run.files()["stream.json"] == before


@pytest.mark.parametrize("damage", ["changed", "removed", "cut", "manifest", "unfinished"])
def test_damaged_images_are_made_again_with_a_note_that_names_the_file(run, tmp_path, damage):
    before = run.files()["stream.json"]
    (entry,) = (path for path in run.cache.iterdir() if path.is_dir())
    path, manifest = entry / "task-01-train.safetensors", entry / "stream.json"
    named = manifest if damage == "manifest" else entry if damage == "unfinished" else path
    data = path.read_bytes()
    if damage == "changed":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "removed":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(data[:-1])
    elif damage == "manifest":
        manifest.write_text(manifest.read_text().replace("splits", "splitz"))
    else:
        manifest.unlink()
    run.prepare()
    (note,) = (text for text in run.notes.texts if "prepared again" in text)
    assert str(named) in note
    assert run.files()["stream.json"] == before == manifest.read_bytes()
    run.prepare()
    assert not any("prepared again" in text for text in run.notes.texts)


def test_damaged_images_without_their_source_are_named(run, tmp_path):
    (path,) = run.cache.glob("*/task-01-train.safetensors")
    path.unlink()
    shutil.rmtree(tmp_path / "before")
    with pytest.raises(MissingFilesError, match=f"must be prepared again: {path} is missing"):
        run.prepare()
