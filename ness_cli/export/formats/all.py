"""The formats by name."""

from __future__ import annotations

from ness_cli.export.formats.base import ExportFormat
from ness_cli.export.formats.merged import Merged
from ness_cli.export.formats.onnx import Onnx
from ness_cli.export.formats.peft import Peft
from ness_cli.export.formats.pt2 import Pt2
from ness_cli.export.formats.state_dict import StateDict

FORMATS: dict[str, type[ExportFormat]] = {
    kind.name: kind for kind in (StateDict, Onnx, Pt2, Merged, Peft)
}
"""Every format, by the name that ``--to`` has."""
