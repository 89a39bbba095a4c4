"""The pages name what there is: files and sections, commands and their options, settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from ness_cli.cli.app import app
from ness_cli.settings.explain import all_options

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
NOW = [page for page in PAGES if page.name != "CHANGELOG.md"]  # it has names of former versions
COMMAND = re.compile(r"(?:^|\s)(?:ness|-m ness_cli) (.*)$")
INSTALLED = {"--help", "-h", "--version", "--install-completion"}


def _codes(text: str) -> Iterator[str]:
    """Yield the commands of code, of a block each line, cut where a shell begins another one."""
    blocks = re.findall(r"(?ms)^```\w*\n(.*?)^```", text)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"(?m)^ {4}(.*)$", text) + re.findall(r"`([^`\n]+)`", text)
    for line in lines:
        yield from re.split(r"&&|;|(?<!\\)\|| # ", line)


@cache
def _root():
    return typer.main.get_command(app)


def _unknown(typed: str) -> list[str]:
    """Return the words of a command of ours that it does not have."""
    words, command = shlex.split(typed, comments=True), _root()
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    known |= INSTALLED
    wrong = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
    needs_name = bool(getattr(command, "commands", {}))
    is_name = bool(words) and re.fullmatch(r"[a-z][a-z-]*", words[0])
    return [words[0], *wrong] if needs_name and is_name else wrong


def test_every_command_and_option_in_the_pages_is_there():
    found = [
        (page.name, match[1])
        for page in NOW
        for code in _codes(page.read_text(encoding="utf-8"))
        if (match := COMMAND.search(code))
    ]
    assert len(found) > 150
    assert [(page, typed) for page, typed in found if _unknown(typed)] == []
    assert _unknown("report runs --to x") == ["--to"]
    assert _unknown("study tables runs") == ["tables"]


def test_every_setting_in_the_pages_is_there():
    settings = {option.key for option in all_options()}
    sections = {key.partition(".")[0] for key in settings}
    named = re.compile(rf"(?<![\w/.*-])((?:{'|'.join(sections)})\.[a-z_0-9.]*[a-z_0-9])=")
    found = [(page.name, key) for page in NOW for key in named.findall(page.read_text())]
    assert len(found) > 100
    assert [(page, key) for page, key in found if key not in settings] == []


def _places(page: Path) -> set[str]:
    heads = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, place = link.partition("#")
        target = page.parent / path if path else page
        assert link.startswith("https://") or target.exists(), link
        assert not place or place in _places(target), link
