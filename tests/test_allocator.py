"""Memory that was freed stays with the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ness_cli import numerics
from ness_cli.cli.session import session
from ness_cli.settings.sections import ComputeSettings

FAULTS = """
import resource, sys
from ness_cli.allocator import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def touch():
    return [bytearray(16 * 2**20) for _ in range(8)]
touch()
before = faults()
for _ in range(5):
    touch()
print(faults() - before)
"""


def _faults(**environment: str) -> int:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    found = subprocess.run(
        [sys.executable, "-c", FAULTS], env=clean | environment, capture_output=True, check=True
    )
    return int(found.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the pages of glibc are counted")
def test_pages_are_not_asked_for_again_but_where_the_user_decided_otherwise():
    # 5 times 128 MiB are 163 840 pages of 4 KiB; a system with huge pages may count fewer.
    kept, users = _faults(), _faults(MALLOC_MMAP_THRESHOLD_="65536")
    assert kept < 200
    assert users > 5 * kept


def test_commands_keep_it_and_a_program_that_configures_torch_does_not(monkeypatch):
    calls = []
    monkeypatch.setattr("ness_cli.cli.session.keep_freed_memory", lambda: calls.append("kept"))
    numerics.configure(ComputeSettings())
    assert calls == []
    assert not hasattr(numerics, "keep_freed_memory")
    with session(quiet=True):
        pass
    assert calls == ["kept"]
