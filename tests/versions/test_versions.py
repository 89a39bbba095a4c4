"""Runs that earlier versions made: read, checked and understood by this one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.settings import yaml_files
from ness_cli.settings.resolve import resolve_again

VERSIONS = [
    path for path in sorted(Path(__file__).parent.iterdir()) if (path / "run.json").exists()
]


@pytest.fixture(params=VERSIONS, ids=lambda path: path.name)
def run(request, tmp_path) -> Path:
    return shutil.copytree(request.param, tmp_path / "run")


def _bytes(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*.*") if "task-" in str(path)}


@pytest.mark.parametrize("command", ["status", "report", "verify"])
def test_it_is_read_and_nothing_is_changed(run, command):
    before = _bytes(run)
    result = CliRunner().invoke(app, [command, str(run)], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert _bytes(run) == before


def test_its_settings_are_what_they_were(run):
    """What came later has a default that keeps the identity: the tensors would be the same."""
    about = json.loads((run / "run.json").read_text())
    found = resolve_again(yaml_files.read(run / "settings.yaml"), about, (), None)
    identity = found.settings.identity()
    assert {key: identity[key] for key in about["identity"]} == about["identity"]


def test_every_document_says_its_version(run):
    for path in run.rglob("*.json"):
        kind, _, number = json.loads(path.read_text())["schema"].rpartition("/")
        assert kind.startswith("ness.")
        assert int(number) >= 1
