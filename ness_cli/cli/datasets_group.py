"""A group of commands whose first word may also be the name of a component."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

from ness_cli import registry

SHOW = "show"


class DatasetsGroup(TyperGroup):
    """``ness datasets npz`` is short for ``ness datasets show npz``."""

    # typer brings its own click or uses that which is installed: their types are not ours to name.
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the first word means."""
        return super().resolve_command(ctx, args if args[0] in self.commands else [SHOW, *args])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Return the commands and the data sources that begin so."""
        found = super().shell_complete(ctx, incomplete)
        kind = type(super().shell_complete(ctx, "")[0])
        names = registry.names("ness_cli.settings.sources")
        return [*found, *(kind(name) for name in names if name.startswith(incomplete))]
