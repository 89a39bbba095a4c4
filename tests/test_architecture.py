"""The worked examples of docs/architecture.md, as a package of somebody else's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages with the one that the page describes."""
    folder = tmp_path_factory.mktemp("site")
    for block in _blocks("python"):
        name = re.match(r"# (their_package/\S+\.py)\n", block).group(1)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)
    for path in {path.parent for path in folder.rglob("*.py")} | {folder / "their_package"}:
        (path / "__init__.py").touch()
    (metadata := folder / "their_package-1.0.dist-info").mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (toml,) = _blocks("toml")
    entries = re.sub(r'\[project\.entry-points\."(.+)"\]', r"[\1]", toml).replace('"', "")
    (metadata / "entry_points.txt").write_text(entries)
    return folder


def test_the_examples_run_together(site, tmp_path):
    out = tmp_path / "run"
    arguments = [
        *("run", "--out", str(out), "--threads", "1", "--quiet", "train.epochs=3"),
        *("data.source=stripes", "net.name=tiny", "method.name=anchored"),
    ]
    program = textwrap.dedent(
        f"""
        import sys
        sys.path.insert(0, {str(site)!r})
        from ness_cli.cli.app import main
        sys.argv = ["ness", *{arguments!r}]
        main()
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = json.loads((out / "task-02" / "accuracy.json").read_text())["task_incremental"]
    assert len(row) == 2
    # Two widths of stripes are far from chance.
    assert row[1] > 75


def test_every_place_that_the_page_names_is_there():
    text = re.sub(r"```.*?```", "", PAGE.read_text(), flags=re.S)
    root = PAGE.parents[1]
    for name in set(re.findall(r"`([\w./]+(?:\.py|/))`", text)):
        assert (root / name).exists() or (root / "ness_cli" / name).exists(), name
