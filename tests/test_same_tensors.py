from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from ness_cli import tensor_files

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    path = ROOT / "scripts" / "same_tensors.py"
    spec = importlib.util.spec_from_file_location("same_tensors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write(folder, value, run="a", kind="model"):
    tensors = {"w": torch.tensor(value)}
    tensor_files.write(folder / "x.safetensors", tensors, {"kind": kind, "run": run})


def test_the_fingerprint_of_the_run_may_differ_and_nothing_else(script, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    _write(a, [1.0], run="a")
    _write(b, [1.0], run="b")
    assert script.differences(a, b) == []
    _write(b, [1.5])
    assert script.differences(a, b) == ["x.safetensors: tensor w differs"]
    _write(b, [1.0], kind="basis")
    assert "header" in script.differences(a, b)[0]


def test_a_file_on_one_side_only_and_no_files_at_all_are_differences(script, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    _write(a, [1.0])
    assert script.differences(a, b) == [f"x.safetensors: only in {a}"]
    assert script.differences(b, b)
