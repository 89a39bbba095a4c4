"""The command line as somebody types it, in this process."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner, Result

from ness_cli.cli.app import app


def ness(*words: object) -> Result:
    """Run a command; what is no error of ours is raised."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def good(*words: object) -> Result:
    """Run a command that ends well."""
    result = ness(*words)
    assert result.exit_code == 0, result.stderr
    return result


def document(*words: object) -> Any:
    """Return the document of a command that ends well."""
    return json.loads(good(*words, "--json").stdout)
