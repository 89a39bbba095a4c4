"""Everything that is known, for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ness_cli.results.report import Report

SUFFIX = "json"


def render(report: Report) -> str:
    """Return the document of the report, as ``--json`` prints it."""
    return json.dumps(report.document(), indent=2, allow_nan=False) + "\n"
