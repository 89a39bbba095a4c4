from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import torch

from ness_cli.errors import NumericalError, StoppedError, SystemRefusedError
from ness_cli.subspace import decomposition
from ness_cli.subspace.decomposition import for_each_spectrum, work_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _wide_is_small(monkeypatch):
    monkeypatch.setattr(decomposition, "WIDE", 16)


def _matrices(*dims):
    generator = torch.Generator().manual_seed(0)
    found = {}
    for number, d in enumerate(dims):
        x = torch.randn(3 * d, d, generator=generator, dtype=torch.float64)
        found[f"layer{number}"] = x.T @ x
    return found


def _top(name, spectrum):
    d = len(spectrum.sigma)
    return spectrum.sigma, spectrum.between(d - 3, d)


def _ignore(work):
    pass


def test_narrow_and_wide_layers_get_what_a_full_decomposition_gives():
    matrices, done = _matrices(4, 20, 3, 30), []
    found = for_each_spectrum(matrices, _top, done.append, device=CPU)
    assert list(found) == list(matrices)  # in their order, whichever is ready first
    for name, (sigma, vectors) in found.items():
        values = torch.linalg.eigvalsh(matrices[name])
        torch.testing.assert_close(sigma.square(), values, rtol=1e-10, atol=1e-10)
        product = matrices[name] @ vectors
        torch.testing.assert_close(product, vectors * sigma[-3:].square(), rtol=0, atol=1e-9)
    assert sum(done) == sum(work_of(len(m)) for m in matrices.values())


def test_no_vectors_at_all_may_be_asked_for():
    def none(name, spectrum):
        return spectrum.between(5, 5)

    for vectors in for_each_spectrum(_matrices(9, 20), none, _ignore, device=CPU).values():
        assert vectors.shape[1] == 0


def test_the_number_of_threads_changes_no_bit():
    matrices, found = _matrices(40, 50, 60), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(for_each_spectrum(matrices, _top, _ignore, device=CPU))
    finally:
        torch.set_num_threads(before)
    for name in matrices:
        assert all(torch.equal(*pair) for pair in zip(found[0][name], found[1][name], strict=True))


def test_a_stop_ends_decompositions_that_would_go_on(monkeypatch):
    """Each would take ten minutes: only ending their processes lets the test go on."""
    monkeypatch.setattr(decomposition, "_PROGRAM", "import time; time.sleep(600)")

    def stop(work):
        assert work == 0
        raise StoppedError("stopped", "")

    with pytest.raises(StoppedError):
        for_each_spectrum(_matrices(20, 30, 40), _top, stop, device=CPU)


def test_a_signal_that_reaches_the_workers_too_is_a_stop_and_no_failure(monkeypatch):
    monkeypatch.setattr(decomposition, "_PROGRAM", f"import os; os.kill(0, {int(signal.SIGTERM)})")
    monkeypatch.setattr(decomposition, "_LOOK_SECONDS", 600)

    def stop(work):
        raise StoppedError("stopped", "")

    with pytest.raises(StoppedError):
        for_each_spectrum(_matrices(20), _top, stop, device=CPU)


def test_a_worker_that_is_killed_is_said_to_be(monkeypatch):
    program = f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})"
    monkeypatch.setattr(decomposition, "_PROGRAM", program)
    with pytest.raises(SystemRefusedError, match="layer layer0: its decomposition was killed"):
        for_each_spectrum(_matrices(20), _top, _ignore, device=CPU)


def test_a_worker_that_fails_names_layer_and_reason(monkeypatch):
    monkeypatch.setattr(decomposition, "_PROGRAM", "raise ValueError('no convergence')")
    with pytest.raises(NumericalError, match=r"layer layer0: .*no convergence"):
        for_each_spectrum(_matrices(20), _top, _ignore, device=CPU)


@pytest.mark.parametrize("d", [4, 20])
def test_a_covariance_that_is_not_finite_names_the_layer(d):
    matrices = _matrices(d)
    matrices["layer0"][0, 0] = float("nan")
    with pytest.raises(NumericalError, match="layer layer0"):
        for_each_spectrum(matrices, _top, _ignore, device=CPU)


def test_what_is_made_of_a_spectrum_may_fail():
    def fail(name, spectrum):
        raise NumericalError(f"layer {name}: no")

    with pytest.raises(NumericalError, match="layer layer0: no"):
        for_each_spectrum(_matrices(20), fail, _ignore, device=CPU)


def test_workers_find_the_package_wherever_the_process_is(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert "PYTHONPATH" not in os.environ
    assert for_each_spectrum(_matrices(20), _top, _ignore, device=CPU)


def test_an_accelerator_decomposes_by_itself(monkeypatch):
    """Nothing is made where the device is CUDA but what torch makes there; here it is the CPU."""
    seen = []
    monkeypatch.setattr(
        decomposition, "spectrum", lambda c, *, layer, device: seen.append((layer, device.type))
    )
    found = for_each_spectrum(
        _matrices(4, 20), lambda *_: None, _ignore, device=torch.device("cuda")
    )
    assert seen == [("layer0", "cuda"), ("layer1", "cuda")]
    assert list(found) == ["layer0", "layer1"]


_ENDLESS = """
import sys, time
from ness_cli.subspace import symmetric_eigen
def decompose(matrix):
    print("working", file=sys.stderr, flush=True)
    time.sleep(60)
symmetric_eigen.SymmetricEigen = decompose
symmetric_eigen.main()
"""
_PARENT = """
import subprocess, sys, time
import numpy as np
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=-1, stdout=-1,
                          start_new_session=True)
matrix = np.eye(3)
worker.stdin.write(np.array(matrix.shape, dtype=np.int64).tobytes() + matrix.tobytes())
worker.stdin.flush()
time.sleep(600)
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a process of its parent's end"
)
def test_a_worker_ends_with_a_parent_that_was_killed():
    command = [sys.executable, "-c", _PARENT, _ENDLESS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr.readline() == "working\n"
        os.kill(parent.pid, signal.SIGKILL)
        # The worker has the other end of this pipe: it closes when both have ended, and a worker
        # that woke up again would fail with a traceback.
        assert parent.stderr.read() == ""
