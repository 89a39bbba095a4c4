"""A table of components, from the option models and their docstrings; no torch needed."""

from __future__ import annotations

import inspect
from typing import Any

from rich.table import Table

from ness_cli import registry
from ness_cli.console import Console


def show_components(console: Console, package: str, kind: str, prefix: str) -> None:
    """Show every component of a package with its summary and its options with their defaults.

    Args:
        console: Where to show it.
        package: Package of the option models.
        kind: Head of the first column: ``method``.
        prefix: What stands before an option on the command line; ``{name}`` is the component.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column(kind, no_wrap=True)
    table.add_column("what it is, and its options")
    document: dict[str, Any] = {}
    for name in registry.names(package):
        module = registry.load(package, name, place=kind)
        summary = (inspect.getdoc(module) or "").splitlines()[0]
        schema = module.Options.model_json_schema()
        required = schema.get("required", [])
        fields = {
            key: field.get("default", None if key in required else "")
            for key, field in schema.get("properties", {}).items()
            if "const" not in field
        }
        lines = [
            f"{prefix.format(name=name)}{key}" + (" (required)" if key in required else f"={value}")
            for key, value in fields.items()
        ]
        table.add_row(name, "\n".join([summary, *(f"  {line}" for line in lines)]))
        document[name] = {"summary": summary, "options": fields, "required": required}
    console.result(table)
    console.document({"schema": f"ness.{kind}s/1", f"{kind}s": document})
