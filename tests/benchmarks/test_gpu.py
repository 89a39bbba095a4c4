"""``make gpu`` where there is no GPU: it says so, and its path holds."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SAVE = "import json, sys; open(sys.argv[-1], 'w').write(json.dumps(dict(status='passed', a=1)))"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("gpu")


def test_without_a_device_it_says_so_in_one_line_and_fails(gpu, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "gpu.json")])
    assert gpu.main() != 0
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "no CUDA device" in err
    assert list(tmp_path.iterdir()) == []


def test_all_parts_together_have_ten_minutes(gpu):
    assert set(gpu.BUDGETS) == set(gpu.gpu_parts.PARTS)
    assert sum(gpu.BUDGETS.values()) <= 600
    assert gpu.BUDGETS["cifar"] > gpu.gpu_parts.CIFAR_SECONDS


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (SAVE, {"status": "passed", "a": 1}),
        (
            f"{SAVE}; raise ValueError('no')",
            {"status": "failed", "a": 1, "error": "ValueError: no"},
        ),
        ("import os; os.kill(os.getpid(), 9)", {"status": "failed", "error": "it said nothing"}),
        ("pass", {"status": "failed", "error": "it said nothing"}),
    ],
)
def test_however_a_part_ends_what_it_found_is_kept(gpu, program, expected):
    found = gpu.measured([sys.executable, "-c", program], 600)
    assert found.pop("seconds") >= 0
    assert found == expected


def test_a_part_that_hangs_ends_with_all_that_it_has_started(gpu, tmp_path):
    started = tmp_path / "started"
    os.mkfifo(started)
    program = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)']); "
        f"open({str(started)!r}, 'w').write(str(child.pid)); time.sleep(3600)"
    )
    # The child's number comes through the pipe before the part is given up.
    waits = gpu._wait

    def after_it_has_started(process, budget):
        pids.append(int(started.read_text()))
        return waits(process, budget)

    pids: list[int] = []
    gpu._wait = after_it_has_started
    try:
        found = gpu.measured([sys.executable, "-c", program], 0.01)
    finally:
        gpu._wait = waits
    assert found["status"] == "timed out"
    end = time.monotonic() + 600
    while not _is_gone(pids[0]):
        assert time.monotonic() < end
        time.sleep(0.01)


def _is_gone(pid: int) -> bool:
    """Return whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.fixture
def images(tmp_path) -> Path:
    for split, count in (("train", 6), ("test", 2)):
        for label in range(20):
            folder = tmp_path / "images" / split / f"class-{label:02d}"
            folder.mkdir(parents=True)
            for number in range(count):
                color = (12 * label, 40 * number, 255 - 12 * label)
                Image.new("RGB", (32, 32), color).save(folder / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.slow
def test_every_part_goes_its_way_on_a_cpu(images, tmp_path):
    out = tmp_path / "found" / "gpu.json"
    command = [sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--quick"]
    done = subprocess.run(
        [*command, "--out", out, "--data", images], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())["parts"]
    assert {name: part["status"] for name, part in found.items()} == dict.fromkeys(found, "passed")
    assert found["bits"]["networks"]["alexnet"]["differing"] == []
    assert set(found["steps"]["networks"]["mlp"]) >= {"fp32", "finetune", "bf16", "compiled"}
    assert len(found["cifar"]["tasks"]) == 2
    assert found["cifar"]["seconds_per_task_of_200_epochs"] > found["cifar"]["seconds_per_epoch"]
    assert found["seeds"]["ratio"] > 0
