"""Eigenvalues of a covariance and those eigenvectors that are asked for, in a process of its own.

A decomposition of a wide layer takes many seconds inside one call that nothing can interrupt. So it
is made in a process of its own, which needs neither torch nor the data and can be ended at any
time: it reads a matrix, writes the eigenvalues, reads which vectors are wanted and writes them.

Three things make it cheaper than a full decomposition, none of which loses a small singular value:

- inputs that are always zero are directions of their own, with eigenvalue 0;
- a matrix of low rank (few rows have been summed up) is decomposed as the small one that it is;
- of a matrix reduced to tridiagonal form all eigenvalues cost little, and vectors by their number.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from functools import cached_property
from typing import IO

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import lapack

Floats = NDArray[np.float64]

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class SymmetricEigen:
    """Eigenvalues of a positive semidefinite matrix, ascending, and vectors on demand.

    Args:
        matrix: ``[d, d]`` float64, symmetric, finite.
    """

    def __init__(self, matrix: Floats) -> None:
        self.dim = len(matrix)
        is_used = matrix.any(axis=0)
        self._used, self._unused = np.flatnonzero(is_used), np.flatnonzero(~is_used)
        self._matrix = matrix if is_used.all() else matrix[np.ix_(self._used, self._used)]
        self._range = _range_of(self._matrix)

    @cached_property
    def values(self) -> Floats:
        """All eigenvalues, ``[d]``; O(d^3), those of low rank r O(d r^2)."""
        inner = self._whole.values if self._range is None else self._inside.values
        return np.concatenate([np.zeros(self.dim - len(inner)), inner])

    def vectors(self, start: int, stop: int) -> Floats:
        """Return the eigenvectors from one position to another as columns, ``[d, stop - start]``.

        O(d^2 (stop - start)) time.
        """
        found = np.zeros((self.dim, stop - start))
        num_unused = len(self._unused)
        own = self._unused[start:stop]
        found[own, np.arange(len(own))] = 1
        first = max(start, num_unused)
        if first < stop:
            inner = self._inner(first - num_unused, stop - num_unused)
            found[self._used, first - start :] = inner
        return found

    def _inner(self, start: int, stop: int) -> Floats:
        if self._range is None:
            return self._whole.vectors(start, stop)
        null = len(self._used) - self._range.shape[1]
        if start < null:  # directions of an exact null space: only the whole matrix has them
            return self._whole.vectors(start, stop)
        inside: Floats = self._range @ self._inside.vectors(start - null, stop - null)
        return inside

    @cached_property
    def _whole(self) -> _Tridiagonal:
        return _Tridiagonal(self._matrix)

    @cached_property
    def _inside(self) -> _Tridiagonal:
        assert self._range is not None
        small = self._range.T @ self._matrix @ self._range
        return _Tridiagonal((small + small.T) / 2)


class _Tridiagonal:
    """A symmetric matrix as Q T Q^T: all eigenvalues, and vectors by their number."""

    def __init__(self, matrix: Floats) -> None:
        self.dim = len(matrix)
        # A power of two, so that scaling rounds nothing and squares cannot overflow.
        largest = float(np.abs(matrix).max(initial=0.0))
        self._scale = 2.0 ** np.frexp(largest)[1] if largest > 0 else 1.0
        if self.dim < 3:
            self._small = np.linalg.eigh(matrix) if self.dim else (np.zeros(0), np.zeros((0, 0)))
            return
        copy = np.asfortranarray(matrix / self._scale)
        workspace, _ = lapack.dsytrd_lwork(self.dim, lower=1)
        self._reflectors, self._diagonal, self._beside, self._tau, info = lapack.dsytrd(
            copy, lower=1, lwork=int(workspace), overwrite_a=1
        )
        _check(info, "dsytrd")

    @cached_property
    def values(self) -> Floats:
        if self.dim < 3:
            return self._small[0]
        found, info = lapack.dsterf(self._diagonal, self._beside)
        _check(info, "dsterf")
        scaled: Floats = found * self._scale
        return scaled

    def vectors(self, start: int, stop: int) -> Floats:
        if self.dim < 3:
            return self._small[1][:, start:stop]
        _, inner = scipy.linalg.eigh_tridiagonal(
            self._diagonal, self._beside, select="i", select_range=(start, stop - 1)
        )
        # The reflectors leave the first coordinate alone; those below are applied as of a QR.
        factors = np.asfortranarray(self._reflectors[1:, :-1])
        below = np.asfortranarray(inner[1:])
        _, work, info = lapack.dormqr("L", "N", factors, self._tau, below, -1)
        _check(info, "dormqr")
        turned, _, info = lapack.dormqr("L", "N", factors, self._tau, below, int(work[0]))
        _check(info, "dormqr")
        return np.vstack([inner[:1], turned])


def _range_of(matrix: Floats) -> Floats | None:
    """Return an orthonormal basis of the range, ``[d, r]``, if its rank is less than d / 2.

    From a Cholesky decomposition with pivoting, an eighth of the time of the eigenvalues. What it
    leaves out is no more than the rounding of a full decomposition, d eps of the largest
    eigenvalue; otherwise the range is not taken.
    """
    dim = len(matrix)
    if dim < 3:
        return None
    factor, pivots, rank, info = lapack.dpstrf(matrix, lower=1)
    if info < 0 or rank == 0 or 2 * rank >= dim:
        return None
    lower = np.tril(factor)[:, :rank]
    rows = np.empty_like(lower)
    rows[pivots - 1] = lower
    left_out = float(np.abs(np.diag(matrix) - np.square(rows).sum(axis=1)).sum())
    largest = float(np.square(matrix).sum() / np.trace(matrix))  # or less than the largest
    if left_out > dim * np.finfo(np.float64).eps * largest:
        return None
    basis: Floats = scipy.linalg.qr(rows, mode="economic", check_finite=False)[0]
    return basis


def _check(info: int, routine: str) -> None:
    if info != 0:
        raise np.linalg.LinAlgError(f"{routine} failed with {info}")


def write(sink: IO[bytes], matrix: Floats) -> None:
    """Write a matrix to a pipe: its two sizes as 64-bit integers, then its numbers, row by row."""
    sink.write(np.array(matrix.shape, dtype=np.int64).tobytes())
    sink.write(np.ascontiguousarray(matrix).data)
    sink.flush()


def read(source: IO[bytes]) -> Floats:
    """Read a matrix from a pipe.

    Raises:
        EOFError: If the other side has gone.
    """
    shape = np.frombuffer(_exactly(source, 16), dtype=np.int64)
    numbers = np.frombuffer(_exactly(source, 8 * int(shape.prod())), dtype=np.float64)
    return numbers.reshape(tuple(shape))


def _exactly(source: IO[bytes], size: int) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        count = source.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the pipe ended")
        done += count
    return data


def end_with_parent() -> None:
    """Ask the system to kill this process when whoever started it has died, even by a kill -9.

    Linux only. Elsewhere a decomposition that is under way is finished first: nothing inside it can
    look whether the pipe has ended.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def main() -> None:
    """Serve one decomposition: matrix in, eigenvalues out, bounds in, vectors out."""
    end_with_parent()  # one that died before this has closed the pipe
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    try:
        found = SymmetricEigen(read(source))
        write(sink, found.values[None])
        while True:
            ((start, stop),) = read(source)
            write(sink, found.vectors(int(start), int(stop)))
    except (EOFError, BrokenPipeError):
        sys.stderr.close()  # whoever asked has gone, or has all it wanted


if __name__ == "__main__":
    main()
