"""The formats by name."""

from __future__ import annotations

from ness_cli.export.formats.base import ExportFormat
from ness_cli.export.formats.state_dict import StateDict

FORMATS: dict[str, type[ExportFormat]] = {kind.name: kind for kind in (StateDict,)}
"""Every format, by the name that ``--to`` has."""
