"""``ness methods``: what methods keep, need and cost, beside what their options say."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.cli.method_facts import NETS, Facts, measured_steps
from ness_cli.settings.components import METHODS

NAMES = METHODS.names()
VISION_ONLY = {"nsp2"}
"""Methods that do not work with the networks that were measured."""


def _shown(*arguments: str, columns: int = 80) -> str:
    width = {"COLUMNS": str(columns)}
    return (
        CliRunner().invoke(app, ["methods", *arguments], env=width, catch_exceptions=False).stdout
    )


@pytest.mark.parametrize("columns", [80, 120])
def test_every_method_has_a_row_that_fits(columns):
    text = _shown(columns=columns)
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    assert len(text.splitlines()) < 120
    table = text[text.index("what they keep") :].splitlines()
    for name in NAMES:
        (row,) = [line.split() for line in table if line.split()[:1] == [name]]
        facts = Facts.of(name)
        steps = [facts.step(net) for net in NETS]
        assert row[-3:] == [str(facts.passes), *steps]
        assert ("yes" in row) == facts.needs_task


@pytest.mark.parametrize("name", NAMES)
def test_the_facts_of_a_method_are_those_of_its_options(name):
    options = METHODS.model(name, setting="test")()
    found = json.loads(_shown(name, "--json"))["methods"][name]
    expected = (options.keeps(), options.needs_task(), options.passes())
    assert (found["keeps"], found["needs_task"], found["passes"]) == expected
    assert set(found["measured"]) == (set() if name in VISION_ONLY else set(NETS))
    page = " ".join(_shown(name).split())
    assert f"keeps: {options.keeps()}" in page
    assert ("do not need to know the task" in page) != options.needs_task()


@pytest.mark.parametrize("net", NETS)
def test_steps_were_measured_of_every_method_beside_finetuning(net):
    rows = measured_steps()[net]
    assert set(NAMES) - set(rows) == VISION_ONLY
    assert rows["finetune"]["ratio"] == 1
    for name, row in rows.items():
        low, high = row["ratio_quartiles"]
        assert 0 < low <= row["ratio"] <= high
        # One who keeps files declares their size; all data are as many as there are.
        facts = Facts.of(name) if name in NAMES else None
        if facts and facts.keeps != "all images":
            assert (row["memory_bytes"] > 0) == (facts.keeps != "nothing")


def test_a_method_that_was_not_measured_shows_dashes():
    facts = Facts("their things", needs_task=False, passes=2, measured={})
    assert (facts.memory, [facts.step(net) for net in NETS]) == ("-", ["-", "-"])
    assert facts.lines() == [
        "keeps: their things",
        "layers do not need to know the task; a step passes its batch 2 times",
    ]
