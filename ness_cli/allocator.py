"""Keep memory that was freed, so that the next step does not ask the system for it again.

The C library gives the activations of every training step back and asks for them anew; the system
then clears every page. On an AlexNet that is a quarter of a step on one core (docs/performance.md).
The peak stays what it was.
"""

from __future__ import annotations

import ctypes
import os

# Parameters of mallopt(3): from how much free memory on some goes back, and from which size on a
# piece is asked of the system by itself; glibc takes at most 32 MiB for the latter.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT, _LARGEST_PIECE = 2**30, 32 * 2**20


def keep_freed_memory() -> None:
    """Have the process keep up to a GiB of what it frees, where the C library is glibc.

    Thresholds that the user has set by environment variables are left alone.
    """
    if any(key.startswith("MALLOC_") or key == "GLIBC_TUNABLES" for key in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_PIECE)
        mallopt(_TRIM_THRESHOLD, _KEPT)
