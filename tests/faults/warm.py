"""Imported once by the process that commands are forked from: builds what each would build."""

from __future__ import annotations

import functools

import typer.main

from ness_cli.cli.app import app
from ness_cli.settings.resolve import resolve

typer.main.get_command = functools.cache(typer.main.get_command)
typer.main.get_command(app)
resolve("digits", [], None)
