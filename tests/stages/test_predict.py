"""Images from outside, as a user names them: files, folders, archives, patterns, lists."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import ness_cli
from ness_cli.cli.app import app
from ness_cli.results.prediction_tables import Confusion

CLASSES = "abcd"


def _ness(*arguments, stdin=None):
    return CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, catch_exceptions=False)


def _save(folder: Path, split: str, count: int) -> None:
    rng = np.random.default_rng(len(split))
    for label, name in enumerate(CLASSES):
        (folder / split / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 90, (8, 8, 3), dtype=np.uint8)
            pixels[2 * label : 2 * label + 2] += 150
            Image.fromarray(pixels).save(folder / split / name / f"{i}.png")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    _save(folder, "train", 20)
    _save(folder, "test", 6)
    return folder


@pytest.fixture(scope="module")
def run(images, tmp_path_factory) -> Path:
    """A run on images that are gone afterwards, from their place and from the cache."""
    folder = tmp_path_factory.mktemp("predicting")
    shutil.copytree(images, folder / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NESS_CACHE", str(folder / "cache"))
        result = _ness(
            *("run", "--out", folder / "run", f"data.path={folder / 'images'}"),
            *("net.name=mlp", "net.hidden=[16]", "train.epochs=8", "train.augment=[]"),
            *("data.size=8", "evaluate.scenario=both", "train.lr=0.1"),
        )
    assert result.exit_code == 0, result.stderr
    shutil.rmtree(folder / "images")
    shutil.rmtree(folder / "cache")
    return folder / "run"


def _document(*arguments, code=0, stdin=None):
    result = _ness("predict", *arguments, "--json", stdin=stdin)
    assert result.exit_code == code, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("task", [None, 1, 2])
def test_folders_of_classes_are_counted_as_the_run_counted_them(task, run, images):
    option = [] if task is None else ["--task", task]
    found = _document(run, images / "test", *option)
    results = ness_cli.read_results(run)
    assert found["scenario"] == ("any-task" if task is None else "task")
    counted = found["by_folder"]
    if task is None:
        assert counted["accuracy"] == pytest.approx(results.class_incremental.acc)
        assert counted["outside"] == {}
    else:
        assert counted["accuracy"] == pytest.approx(results.task_incremental.final[task - 1])
        assert counted["outside"] == dict.fromkeys({1: "cd", 2: "ab"}[task], 6)
    assert sum(row["images"] for row in counted["confusion"]) == counted["images"]
    right = sum(p["label"] == p["class"] for p in found["predictions"])
    assert right == counted["right"]


def test_every_way_of_naming_images_gives_the_same(run, images, tmp_path):
    folder = images / "test" / "a"
    files = sorted(folder.iterdir())
    with zipfile.ZipFile(tmp_path / "test.zip", "w") as archive:
        for file in files:
            archive.write(file, f"a/{file.name}")
    listed = "\n".join(map(str, files)) + "\n"
    ways = [[folder], files, [folder / "*.png"], [tmp_path / "test.zip"]]
    found = [_document(run, *way) for way in ways] + [_document(run, "-", stdin=listed)]
    for each in found:
        assert each["by_folder"] == found[0]["by_folder"]
        assert [p["top"] for p in each["predictions"]] == [
            p["top"] for p in found[0]["predictions"]
        ]
    assert [p["file"] for p in found[0]["predictions"]] == list(map(str, files))
    assert found[3]["predictions"][0]["file"] == f"{tmp_path / 'test.zip'}: a/0.png"


def test_an_image_is_what_the_loaded_model_says(run, images):
    file = images / "test" / "c" / "3.png"
    (found,) = _document(run, file, "--top", 2)["predictions"]
    (expected,) = ness_cli.load(run).predict([file], top=2)
    assert found["top"] == expected.as_json()["top"]
    assert len(found["top"]) == 2


def test_what_cannot_be_read_is_named_and_left_out(run, images, tmp_path):
    folder = tmp_path / "mixed" / "a"
    shutil.copytree(images / "test" / "a", folder)
    (folder / "bad.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not looked at")
    missing = tmp_path / "missing.png"
    result = _ness("predict", run, folder, missing)
    assert result.exit_code == 4
    assert "2 files could not be read" in result.stderr
    found = _document(run, folder, missing, code=4)
    assert len(found["predictions"]) == 6
    bad, gone = found["unreadable"]
    assert str(folder / "bad.png") in bad
    assert str(missing) in gone
    assert found["by_folder"]["images"] == 6
    nothing = _document(run, missing, code=4)
    assert (nothing["predictions"], nothing["by_folder"]) == ([], None)


def test_images_of_other_sizes_and_modes_are_taken(run, images, tmp_path):
    picture = Image.open(images / "test" / "b" / "0.png")
    names = []
    for name, image in (
        ("large.png", picture.resize((50, 30))),
        ("grey.png", picture.convert("L")),
        ("clear.png", picture.convert("RGBA")),
        ("photo.jpg", picture),
    ):
        image.save(tmp_path / name)
        names.append(tmp_path / name)
    found = _document(run, *names)
    assert [p["file"] for p in found["predictions"]] == list(map(str, names))
    assert found["by_folder"] is None


def test_csv_has_a_line_per_image(run, images):
    result = _ness("predict", run, images / "test" / "a", "--csv", "--top", 2)
    assert result.exit_code == 0
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    found = _document(run, images / "test" / "a", "--top", 2)["predictions"]
    assert [row["file"] for row in rows] == [each["file"] for each in found]
    for row, each in zip(rows, found, strict=True):
        assert (row["label"], int(row["task"])) == (each["label"], each["task"])
        assert float(row["confidence"]) == each["confidence"]
        assert row["label_2"] == each["top"][1]["label"]


def test_without_a_task_it_says_that_all_compete(run, images):
    result = _ness("predict", run, images / "test")
    assert result.exit_code == 0
    assert "all classes compete" in result.stderr
    assert "Any task: among the 4 classes of tasks 1 to 2" in result.stdout
    assert "of 24 images right" in result.stdout
    known = _ness("predict", run, images / "test", "--task", 1)
    assert "compete" not in known.stderr
    said = _ness("predict", run, images / "test", "--any-task")
    assert (said.stdout, said.stderr) == (result.stdout, "")
    assert "not counted: 6 images in 'c'" in known.stdout
    assert _ness("predict", run, images / "test", "--quiet").stdout == ""


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--task", 1, "--any-task"], 2, "--task and --any-task exclude each other"),
        (["--csv", "--json"], 2, "--csv and --json exclude each other"),
        (["--task", 3], 4, "task: 3 is not between 1 and 2"),
    ],
)
def test_what_does_not_go_is_refused(more, code, words, run, images):
    result = _ness("predict", run, images / "test", *more)
    assert result.exit_code == code
    assert words in result.stderr


def test_an_empty_folder_and_an_empty_list_are_refused(run, tmp_path):
    assert "no images found" in _ness("predict", run, tmp_path).stderr
    result = _ness("predict", run, "-", stdin="\n")
    assert (result.exit_code, "no images are named" in result.stderr) == (4, True)


def test_confusions_that_do_not_fit_are_listed_by_their_number():
    names = [f"class-number-{i}" for i in range(20)]
    pairs = [(names[i], names[(i + (i % 3 == 0)) % 20]) for i in range(20)] + [(names[3], names[9])]
    confusion = Confusion.of(pairs, ["elsewhere"], names)
    assert (confusion.num_right, confusion.num_images) == (13, 21)
    assert confusion.of_class(names[3]) == (0, 2)
    assert confusion.accuracy == pytest.approx(100 * 13 / 21)
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(confusion.tables(80))
    text = console.export_text()
    assert "13 of 21 images right: 61.90 %" in text
    assert "not counted: 1 image in 'elsewhere'" in text
    assert max(map(len, text.splitlines())) <= 80
