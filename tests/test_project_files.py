"""Files that tools outside the package read: each must at least be what it says it is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def _version():
    return re.search(r'^version = "(.+)"', PYPROJECT, re.M).group(1)


def test_the_citation_has_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == _version()
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_hooks_and_workflow_run_commands_that_exist():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["entry"].split()[0] for hook in hooks} == {".venv/bin/ruff", ".venv/bin/mypy"}
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = [step.get("run") for step in workflow["jobs"]["check"]["steps"]]
    assert "bash .ci/run" in commands
    assert (ROOT / ".ci" / "run").exists()


def _pythons():
    """Return the Pythons that the package says it is for, oldest first, as in 3.10."""
    return re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PYPROJECT)


def test_all_files_name_the_same_pythons():
    oldest, newest = _pythons()[0], _pythons()[-1]
    after = f"3.{int(newest.removeprefix('3.')) + 1}"
    assert f'requires-python = ">={oldest},<{after}"' in PYPROJECT
    assert f"Python {oldest} to {newest};" in (ROOT / "README.md").read_text()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == [oldest, newest]
    tried = (ROOT / "docs" / "reliability.md").read_text().partition("## Environments")[2]
    assert [python for python in _pythons() if f"\n| {python}." not in tried] == []


def test_the_sdist_has_all_that_is_in_the_tree():
    named = re.search(r"targets\.sdist\][^\[]*include = \[(.*?)\]", PYPROJECT, re.S).group(1)
    packed = {name.removeprefix("/") for name in re.findall(r'"(.+?)"', named)}
    added = {"pyproject.toml", ".gitignore"}  # hatchling packs these unasked
    listed = ["git", "-C", str(ROOT), "ls-files", "-z"]
    tracked = subprocess.run(listed, capture_output=True, text=True, check=False).stdout
    names = {path.partition("/")[0] for path in tracked.split("\0") if path} or added
    assert names <= packed | added
    assert {name for name in packed if not (ROOT / name).exists()} == set()


def test_the_tests_of_another_environment_are_there():
    script = (ROOT / "scripts" / "try-environment").read_text()
    words = re.search(r"^tests=\((.*?)^\)", script, re.S | re.M).group(1).split()
    found = subprocess.run(
        ["bash", "-c", f"ls -d {' '.join(words)}"], cwd=ROOT, capture_output=True, check=False
    )
    assert found.returncode == 0, found.stderr


def test_links_in_documents_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
