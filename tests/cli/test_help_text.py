from __future__ import annotations

import inspect
import textwrap

import pytest
import typer
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.cli.help_text import flowing


def _commands(group: typer.Typer, *words: str):
    for command in group.registered_commands:
        yield (*words, command.name), command.callback
    for inner in group.registered_groups:
        yield from _commands(inner.typer_instance, *words, inner.name)
        if inner.typer_instance.registered_callback:
            yield (*words, inner.name), inner.typer_instance.registered_callback.callback


COMMANDS = dict(_commands(app))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("columns", [80, 120])
def test_help_fills_its_lines_at_any_width(words, columns):
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(columns)}).stdout
    lines = [line.strip() for line in shown.splitlines()]
    assert max(map(len, shown.splitlines())) <= columns
    for paragraph in inspect.getdoc(COMMANDS[words]).split("\n\n"):
        if paragraph.startswith(" ") or "[" in paragraph:
            continue  # an example, or with markup
        for line in textwrap.wrap(paragraph, columns - 2, break_on_hyphens=False):
            assert line in lines


ALONE = {("presets", "cat"), ("presets", "ls"), ("presets", "schema"), ("presets", "validate")}


@pytest.mark.parametrize("words", [words for words in COMMANDS if words not in ALONE], ids=" ".join)
def test_help_has_examples(words):
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}).stdout
    command = f"ness {words[0]}"
    assert any(line.split()[:2] == command.split() for line in shown.splitlines())


def test_paragraphs_flow_and_examples_stay():
    text = "One\ntwo.\n\nThree  four\nfive.\n\n  ness run\n\n  ness status"
    assert flowing(text) == "One two.\n\nThree four five.\n\n  ness run\n\n  ness status"


def test_commands_that_take_a_device_take_threads():
    options = {words: inspect.signature(command).parameters for words, command in COMMANDS.items()}
    without = [words for words, own in options.items() if "device" in own and "threads" not in own]
    assert [words for words in without if words[0] not in ("study", "tune")] == []
    # A study says how many threads each of its jobs has.
