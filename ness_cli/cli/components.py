"""A table of components, from the option models and their docstrings; no torch needed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ness_cli import registry
from ness_cli.console import Console
from ness_cli.results.plain_table import plain_table, titled
from ness_cli.settings.base import Section


def show_components(
    console: Console, package: str, kind: str, prefix: str, shared: type[Section] | None = None
) -> None:
    """Show every component of a package with its summary and its options with their defaults.

    Args:
        console: Where to show it.
        package: Package of the option models.
        kind: Head of the first column: ``method``.
        prefix: What stands before an option on the command line; ``{name}`` is the component.
        shared: Options that most components have; shown once, and where a default differs.
    """
    common = {} if shared is None else _fields(shared)
    for key in () if shared is None else _required(shared):
        del common[key]  # the name of the component itself
    table = plain_table(kind, "what it is, and its options", left=2)
    table.columns[0].no_wrap = True
    document: dict[str, Any] = {}
    for name in registry.names(package):
        module = registry.load(package, name, place=kind)
        summary = (inspect.getdoc(module) or "").splitlines()[0]
        fields, required = _fields(module.Options), _required(module.Options)
        own = {k: v for k, v in fields.items() if k not in common or common[k] != v}
        lines = _lines(own, required, prefix.format(name=name))
        table.add_row(name, "\n".join([summary, *lines]))
        document[name] = {"summary": summary, "options": fields, "required": required}
    console.result(titled(f"{kind}s", table, " " if common else ""))
    if common:
        every = plain_table(f"options of nearly every {kind}, unless it says otherwise", left=1)
        for line in _lines(common, [], prefix):
            every.add_row(line)
        console.result(every)
    console.document({"schema": f"ness.{kind}s/1", f"{kind}s": document})


def _fields(model: type[Section]) -> dict[str, Any]:
    required = _required(model)
    return {
        key: field.get("default", None if key in required else "")
        for key, field in model.model_json_schema().get("properties", {}).items()
        if "const" not in field
    }


def _required(model: type[Section]) -> list[str]:
    return [str(key) for key in model.model_json_schema().get("required", [])]


def _lines(fields: Mapping[str, Any], required: list[str], prefix: str) -> list[str]:
    return [
        f"  {prefix}{key}" + (" (required)" if key in required else f"={_plain(value)}")
        for key, value in fields.items()
    ]


def _plain(value: object) -> str:
    """Return a value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
