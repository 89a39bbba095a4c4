"""Mutated files of every format: read or refused in a line, in 10^9 bytes and a minute."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from hostile.formats import FORMATS, RARE_PICTURES
from hostile.limits import try_all
from hostile.mutations import mutations
from made_up_run import made_up

from ness_cli.data.sources import parquet
from ness_cli.results.live_status import read_live

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")


@pytest.mark.parametrize(
    ("name", "count"),
    [
        *((name, 15) for name in FORMATS if name not in RARE_PICTURES),
        *(pytest.param(name, 5000, marks=pytest.mark.slow) for name in FORMATS),
    ],
)
def test_a_mutated_file_is_read_or_refused(name, count, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    whole, read = FORMATS[name](tmp_path)
    read(whole)
    outcomes = try_all(mutations(whole, count), read, tmp_path).check()
    assert sum(outcomes.values()) == count
    assert outcomes.keys() - {"read"}, "the changes changed nothing"
    print(f"{name}: {dict(outcomes)}")


def test_json_without_end_beside_a_run_and_in_a_parquet_file_is_passed_over(tmp_path):
    run, deep = made_up(tmp_path / "run", 1), "[" * 10**5
    for name in (".lock-1", "progress.json"):
        (run / name).write_text(deep)
    found = read_live(run)
    assert (found.worker, found.progress) == (None, {})
    schema = SimpleNamespace(metadata={b"huggingface": deep.encode()})
    assert parquet._names_in(schema, "label", "the file") is None


def test_what_escapes_is_noticed(tmp_path):
    """The harness itself: a parser that writes elsewhere, runs a program or dies is found out."""
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-elsewhere")
    found = try_all([b""], lambda _: elsewhere.write_bytes(b""), tmp_path)
    assert str(elsewhere) in found.escapes[0]
    assert "os.system" in try_all([b""], lambda _: os.system("true"), tmp_path).escapes[0]
    assert "MemoryError" in try_all([b""], lambda _: bytes(2 * 10**9), tmp_path).wrong[0]
    with pytest.raises(AssertionError, match="while trying number 0"):
        try_all([b""], lambda _: os.kill(os.getpid(), signal.SIGKILL), tmp_path)
