"""What was typed: remembered for the way on after a stop, and for wrong usage told as JSON."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from ness_cli.console import Console
from ness_cli.errors import SettingsError

_KEY = "ness.typed"


class Commands(TyperGroup):
    """The commands of ``ness``."""

    def make_context(self, info_name: Any, args: list[str], *more: Any, **named: Any) -> Any:
        """Return the context of a command line, which remembers it."""
        typed = list(args)
        with _usage_as_json(typed):
            context = super().make_context(info_name, args, *more, **named)
        context.meta[_KEY] = typed
        return context

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        with _usage_as_json(ctx.meta[_KEY]):
            return super().invoke(ctx)


def command_line(context: typer.Context) -> str:
    """Return the command as it was typed, quoted for a shell."""
    return shlex.join(["ness", *context.meta[_KEY]])


@contextlib.contextmanager
def _usage_as_json(typed: Sequence[str]) -> Iterator[None]:
    """Print wrong usage as a document where one was asked for; typer prints it for people."""
    try:
        yield
    except Exception as error:
        # typer's own class of usage errors has moved between its versions; this all of them have.
        if "--json" in typed and hasattr(error, "format_message"):
            command = next((word for word in typed if not word.startswith("-")), "")
            remedy = f"see: {' '.join(['ness', command]).strip()} --help"
            Console(json=True).failed(SettingsError(error.format_message(), remedy))
        raise
