"""``ness datasets check`` as a user types it."""

from __future__ import annotations

import json
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.data.tasks.classes import assigned_classes
from ness_cli.settings.resolve import resolve


@pytest.fixture
def folder(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "my leaves" / name).mkdir(parents=True)
        for index in range(3):
            pixels = np.full((4, 4, 3), 9 * index + len(name), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my leaves" / name / f"{index}.png")
    return tmp_path / "my leaves"


def ness(*arguments):
    return CliRunner().invoke(app, ["datasets", *map(str, arguments)], catch_exceptions=False)


def test_a_good_folder_ends_with_the_command_that_learns_it(folder):
    result = ness("check", folder)
    assert result.exit_code == 0
    typed = f"'data.path={folder}' data.test_fraction=0.2"
    assert f"Next: ness run {typed}" in result.stderr
    assert "the same pixels" in result.stdout


@pytest.mark.parametrize("extra", ["C", "CD", "CDE"])
def test_the_command_that_it_ends_with_deals_all_classes_to_tasks(folder, extra):
    for name in extra:
        shutil.copytree(folder / "ant", folder / name)
    typed = shlex.split(json.loads(ness("check", folder, "--json").stdout)["next"])[2:]
    settings = resolve("images", typed).settings
    tasks = assigned_classes(["ant", "bee", *extra], settings.data)
    assert (len(tasks), sum(map(len, tasks))) == (2, 2 + len(extra))


def test_what_would_stop_preparing_exits_with_4_and_one_document(folder):
    (folder / "ant" / "0.png").write_bytes(b"no image")
    result = ness("check", folder, "--json")
    assert result.exit_code == 4
    found = json.loads(result.stdout)
    assert found["counts"] == {"ant": {"train": 2}, "bee": {"train": 3}}
    assert found["repeated"] == [["ant/1.png", "bee/1.png"], ["ant/2.png", "bee/2.png"]]
    (problem,) = found["problems"]
    assert "ant/0.png cannot be read" in problem["what"]
    assert 'data.exclude=["ant/0.png"]' in problem["fix"]


def test_the_list_of_sources_is_where_it_was():
    assert "data.source=" in ness("--help").stdout.replace("\n", " ")
    assert "image-folder" in json.loads(ness("--json").stdout)["sources"]
