"""Running out of memory: a refusal of the system, with a remedy that fits what was being done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ness_cli.errors import SystemRefusedError

_SIGNS = ("allocate memory", "ALLOC_FAILED")


@contextmanager
def short_of_memory(remedy: str) -> Iterator[None]:
    """Refuse with a remedy if memory runs out within.

    Raises:
        SystemRefusedError: If it does; whatever else is raised passes.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(error, remedy) from error


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that the machine or a device has no more memory."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def out_of_memory(error: Exception, remedy: str) -> SystemRefusedError:
    """Return the refusal, with the first line of what the error says."""
    first = str(error).partition("\n")[0] or "no more to be had"
    return SystemRefusedError(f"out of memory: {first}", remedy)
