"""Spectra of many layers: wide ones side by side in processes that can be ended at any time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np
import torch

import ness_cli
from ness_cli.errors import NumericalError, SystemRefusedError
from ness_cli.subspace import symmetric_eigen
from ness_cli.subspace.spectrum import Spectrum, checked, spectrum

Result = TypeVar("Result")

WIDE = 1280  # from this width on a process of its own: a decomposition takes a second or more
_LOOK_SECONDS = 0.2
_PROGRAM = f"from {symmetric_eigen.__name__} import main; main()"
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def for_each_spectrum(
    matrices: Mapping[str, torch.Tensor],
    use: Callable[[str, Spectrum], Result],
    advance: Callable[[int], None],
    *,
    device: torch.device,
) -> dict[str, Result]:
    """Decompose positive semidefinite matrices and return what is made of each spectrum.

    The bits do not depend on the number of threads: every wide matrix is decomposed on one, and as
    many of them at a time as torch has threads. An accelerator decomposes all of them itself.

    Args:
        matrices: ``[d, d]`` float64 by layer.
        use: Called with layer and spectrum; for wide layers in a thread, and not in their order.
        advance: Called with the work done, as ``work_of`` counts it, and with 0 several times a
            second in between; an exception that it raises ends everything at once.
        device: Where the model is.

    Raises:
        NumericalError: If a matrix holds NaN or infinity, or its decomposition fails.
        SystemRefusedError: If a process cannot be started, or is killed.
    """
    is_wide = {
        name: len(matrix) >= WIDE and device.type != "cuda" for name, matrix in matrices.items()
    }
    found: dict[str, Result] = {}
    wide = sorted((name for name in matrices if is_wide[name]), key=lambda n: -len(matrices[n]))
    with _pool(wide) as (pool, workers):
        jobs = {pool.submit(_in_worker, workers, n, matrices[n], use): n for n in wide}
        for name, matrix in matrices.items():
            if not is_wide[name]:
                found[name] = use(name, spectrum(matrix, layer=name, device=device))
                advance(work_of(len(matrix)))
        while jobs:
            for job in wait(jobs, _LOOK_SECONDS, FIRST_COMPLETED).done:
                name = jobs.pop(job)
                if job.exception() is not None:
                    advance(0)  # whoever asked for a stop may have stopped the process too
                found[name] = job.result()
                advance(work_of(len(matrices[name])))
            advance(0)
    return {name: found[name] for name in matrices}


def work_of(dim: int) -> int:
    """Return the work that a decomposition of width ``dim`` is, in products of that many rows.

    Measured: about as long as adding 10 d rows to a covariance, 10 d^3 multiply-adds.
    """
    return 10 * dim**3


@contextmanager
def _pool(wide: list[str]) -> Iterator[tuple[ThreadPoolExecutor, _Workers]]:
    """Give threads that look after workers; on the way out workers end first."""
    size = max(1, min(len(wide), torch.get_num_threads()))
    with ThreadPoolExecutor(size) as pool, _Workers() as workers:
        yield pool, workers


class _Workers:
    """The processes of some decompositions; those that are left at the end are killed."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_over = False

    def __enter__(self) -> _Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over = True
        for process in list(self._running):
            process.kill()

    @contextmanager
    def start(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start a worker; it has ended when the context has."""
        root = str(Path(ness_cli.__path__[0]).parent)
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # One thread each: threads of BLAS would change the bits with their number. A session
            # of its own: a Ctrl-C is for the process that knows how to stop.
            env={**os.environ, "PYTHONPATH": path, **dict.fromkeys(_ONE_THREAD, "1")},
            start_new_session=True,
        )
        self._running.add(process)
        if self._is_over:
            process.kill()
        try:
            yield process
        finally:
            process.kill()
            process.communicate()
            self._running.discard(process)


def _in_worker(
    workers: _Workers,
    layer: str,
    matrix: torch.Tensor,
    use: Callable[[str, Spectrum], Result],
) -> Result:
    """Decompose one matrix in a process and return what is made of it."""
    matrix = checked(matrix, layer=layer)
    with workers.start() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout, process.stdin

        def between(start: int, stop: int) -> torch.Tensor:
            symmetric_eigen.write(sink, np.array([[start, stop]], dtype=np.float64))
            return torch.from_numpy(symmetric_eigen.read(source))

        try:
            symmetric_eigen.write(sink, matrix.numpy())
            values = torch.from_numpy(symmetric_eigen.read(source)[0])
            return use(layer, Spectrum(values.clamp(min=0).sqrt(), between))
        except (EOFError, BrokenPipeError) as error:
            raise _failure(layer, process) from error


def _failure(layer: str, process: subprocess.Popen[bytes]) -> Exception:
    """Return what became of a worker that went away."""
    code = process.wait()
    assert process.stderr is not None
    lines = process.stderr.read().decode(errors="replace").strip().splitlines()
    if code < 0:
        return SystemRefusedError(
            f"layer {layer}: its decomposition was killed by signal {-code}",
            "free some memory, or use fewer --threads: as many layers are decomposed at a time",
        )
    last = lines[-1] if lines else f"exit code {code}"
    return NumericalError(f"layer {layer}: eigendecomposition failed: {last}")
