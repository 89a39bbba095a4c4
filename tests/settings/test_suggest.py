from __future__ import annotations

import re

import pytest

from ness_cli.errors import SettingsError
from ness_cli.settings.resolve import build, resolve


def _problem(*overrides: str) -> str:
    with pytest.raises(SettingsError) as error:
        resolve("digits", overrides)
    return error.value.what


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lr", "'train.lr'"),
        ("sed", "'seed'"),
        ("eps1", "'methods.ness.eps1'"),
        ("train.eps1", "'methods.ness.eps1'"),
        ("methods.eps1", "'methods.ness.eps1'"),
        ("methods.nes.eps1", "'methods.ness.eps1'"),
        ("methods.ness.esp1", "'methods.ness.eps1'"),
        ("rho", "'train.sam.rho'"),
        ("train.rho", "'train.sam.rho'"),
        ("train.sam.roh", "'train.sam.rho'"),
        ("trian.lr", "'train.lr'"),
        ("epoch", "'train.epochs'"),
        ("learning_rate", "'train.lr'"),
        ("momentun", "'train.momentum'"),
        ("batch_size", "'train.batch_size' or 'evaluate.batch_size'"),
        ("evaluate.batchsize", "'evaluate.batch_size'"),
        ("name", "'data.name', 'net.name' or 'method.name'"),
    ],
)
def test_an_unknown_key_names_what_may_be_meant(typed, meant):
    # Another method may have an option of the same name, which stands behind it.
    start = re.escape(f"{typed}: unknown key; did you mean {meant}")
    assert re.match(rf"{start}(\?$|,? (or )?'methods\.)", _problem(f"{typed}=1"))


def test_a_key_of_a_data_set_in_a_sequence_is_sought_among_its_own():
    found = _problem("data.source=sequence", "data.sources=[{source: digits, protcol: split}]")
    meant = "'data.sources[0].protocol'"
    assert found == f"data.sources[0].protcol: unknown key; did you mean {meant}?"


def test_a_key_like_no_other_names_those_that_could_stand_there():
    assert _problem("train.sam.foo=1") == "train.sam.foo: unknown key (known keys: tasks, rho)"
    assert _problem("foo=1") == "foo: unknown key"


def test_a_key_of_another_component_says_of_which():
    words = "net.width: unknown key here; it belongs to net.name=alexnet and net.name=resnet18"
    assert _problem("net.width=2") == words


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("method=gpm", "method.name=gpm"),
        ("net=lenet", "net.name=lenet"),
        ("data=mnist", "data.source=mnist"),
    ],
)
def test_a_component_in_the_place_of_its_section_is_understood(override, meant):
    assert _problem(override).endswith(f"; did you mean {meant}?")


def test_every_unknown_key_of_a_group_is_named():
    with pytest.raises(SettingsError) as error:
        build({"trian": {"lr": 1, "sam": {"rho": 2}}, "foo": {}})
    lines = error.value.what.splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["trian.lr", "trian.sam.rho", "foo"]
    assert error.value.remedy == "ness settings explains them all, ness settings KEY one of them"
