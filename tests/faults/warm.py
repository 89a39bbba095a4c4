"""Imported once by the process that commands are forked from: makes what each would make."""

from __future__ import annotations

import functools

import typer.main

from ness_cli.cli.app import app
from ness_cli.plots import picture
from ness_cli.settings.resolve import resolve
from ness_cli.stages import progress_picture

typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(app)
resolve("digits", [], None)
# Drawing takes longer than all the rest; that pictures are written is what counts.
picture.render = progress_picture.render = lambda _picture, ending, **_how: (
    f"<svg >{ending}</svg>".encode()
)
