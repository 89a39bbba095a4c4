"""What ``prepare`` shows, and what it takes."""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from typer.testing import CliRunner

from ness_cli.cli.app import app


def _images(folder: Path, shade: int) -> Path:
    for split in ("train", "test"):
        for number, name in enumerate("ab"):
            place = folder / split / name
            place.mkdir(parents=True)
            Image.new("RGB", (3, 3), (shade, 90 * number, 0)).save(place / "0.png")
    return folder


def _ness(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_no_command_takes_other_images_and_both_compare_on_request(tmp_path):
    first, other = _images(tmp_path / "first", 0), _images(tmp_path / "other", 1)
    source = ["data.source=image-folder", "data.classes_per_task=1", "data.valid_fraction=0"]
    source += ["net.name=mlp", "net.hidden=[4]", "train.epochs=1"]
    run = ["--out", tmp_path / "run"]
    assert _ness("prepare", *run, *source, f"data.path={first}").exit_code == 0
    result = _ness("prepare", *run, "--verify-data")
    assert "with the same settings and from the same files" in result.stderr
    shutil.rmtree(first / "test" / "a")
    for command in (["prepare"], ["run", "--until", 1]):
        for wrong in ([f"data.path={other}"], [f"data.path={tmp_path / 'no'}"], ["--verify-data"]):
            result = _ness(*command, *run, *wrong)
            assert result.exit_code == 4, result.stderr
            assert "data.path" in result.stderr
    assert not (tmp_path / "run" / "task-01").exists()
    assert _ness("prepare", *run).exit_code == 0


def test_a_dry_run_compares_nothing(tmp_path):
    assert _ness("prepare", "--dry-run", "--verify-data").exit_code == 2
