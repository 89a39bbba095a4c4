"""Imports flow one way: a module imports only from rows above its own, or from its own package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ness_cli"
ROWS = {
    **dict.fromkeys(("errors", "words", "hashing", "allocator", "process_identity", "version"), 0),
    **dict.fromkeys(
        (
            "settings",
            "registry",
            "extensions",
            "file_kinds",
            "record_shapes",
            "files",
            "run_dir",
            "run_state",
            "plots",
            "results",
            "console",
            "lease",
            "memory",
            "stop_request",
            "workplace",
        ),
        1,
    ),
    **dict.fromkeys(
        ("tensor_files", "seeding", "vision_libraries", "numerics", "processes", "trackers"), 2
    ),
    **dict.fromkeys(("data", "nets", "subspace", "optim"), 3),
    "methods": 4,
    **dict.fromkeys(("engine", "export"), 5),
    "stages": 6,
    "study": 7,
    "cli": 8,
    "__main__": 9,
}
# Row 1 is small and closed: who may use whom inside it.
INSIDE_ROW_1 = {
    "settings": {"file_kinds", "registry"},
    "files": {"file_kinds", "record_shapes"},
    "lease": {"file_kinds", "files"},
    "run_dir": {"files", "lease"},
    "workplace": {"console", "stop_request"},
    "extensions": {"files", "record_shapes", "run_dir"},
    "run_state": {"extensions", "files", "record_shapes", "run_dir"},
    "plots": {"files"},
    "results": {"extensions", "files", "plots", "run_dir", "run_state", "settings"},
}
TORCH_FREE_STAGES = {"diff.py", "report.py"}


def _modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_rows_above_its_own(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] != "ness_cli" or len(parts) < 2 or parts[1] == room:
            continue
        other = parts[1]
        allowed = ROWS[other] < ROWS[room] or other in INSIDE_ROW_1.get(room, set())
        assert allowed, f"{path} imports {name}"


@pytest.mark.parametrize("path", _modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rows_0_and_1_never_import_torch(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if ROWS[room] <= 1 or path.name in TORCH_FREE_STAGES:
        assert not any(name.split(".")[0] == "torch" for name in _imports(path))


def test_every_room_has_a_row():
    rooms = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in _modules()}
    assert rooms == set(ROWS)


def test_init_files_are_empty_but_for_the_public_face():
    for path in PACKAGE.rglob("__init__.py"):
        assert path.parent == PACKAGE or not path.read_text().strip(), path
