"""Help that fits terminals of any width: docstrings flow, as their examples do not."""

from __future__ import annotations

import inspect

import typer


def flow_help(app: typer.Typer) -> None:
    """Make every docstring of a command below ``app`` flow: typer keeps its line breaks."""
    for command in app.registered_commands:
        command.help = flowing(inspect.getdoc(command.callback) or "")
    for group in app.registered_groups:
        inner = group.typer_instance
        if inner is not None:
            flow_help(inner)
        if inner is not None and inner.registered_callback is not None:
            inner.registered_callback.help = flowing(
                inspect.getdoc(inner.registered_callback.callback) or ""
            )


def flowing(text: str) -> str:
    """Return a text with every paragraph on one line; indented lines are as they are."""
    return "\n\n".join(
        each if each.startswith(" ") else " ".join(each.split()) for each in text.split("\n\n")
    )
