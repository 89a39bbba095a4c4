"""Which version of ``ness`` this is."""

from __future__ import annotations

import importlib.metadata


def own_version() -> str:
    """Return it; ``unknown`` where the code lies somewhere without having been installed."""
    try:
        return importlib.metadata.version("ness-cli")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
