from __future__ import annotations

import json
import shlex

import pytest
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.settings.components import METHODS, NETS, SOURCES
from ness_cli.settings.explain import all_options, options_of
from ness_cli.settings.yaml_files import parse

KINDS = {
    "methods": (METHODS, "methods.{name}."),
    "datasets": (SOURCES, "data."),
    "networks": (NETS, "net."),
}
EACH = [(command, name) for command in KINDS for name in KINDS[command][0].names()]


def _shown(*arguments: str, columns: int = 80) -> str:
    width = {"COLUMNS": str(columns)}
    result = CliRunner().invoke(app, arguments, env=width, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 2
    return result.stderr


@pytest.mark.parametrize(("command", "name"), EACH)
def test_a_component_is_explained_with_every_option(command, name):
    shown = _shown(command, name)
    words = " ".join(shown.split())
    choice, prefix = KINDS[command]
    options = list(options_of(choice.model(name, setting="x"), prefix.format(name=name)))
    for option in options:
        assert option.text in words
        assert option.kind in words
    lines = shown.splitlines()
    assert lines[0].startswith(f"{name}: ")
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("command", "name"), EACH)
def test_what_is_shown_of_an_option_is_typed_in_a_shell_as_it_is(command, name):
    choice, prefix = KINDS[command]
    options = list(options_of(choice.model(name, setting="x"), prefix.format(name=name)))
    shown = _shown(command, name, columns=200).splitlines()[1:]
    heads = [line for line in shown if line[:1] not in (" ", "")]
    typed = [shlex.split(head)[0].partition("=") for head in heads]  # without a shell's quotes
    assert [key for key, _, _ in typed] == [option.key for option in options]
    for (_, _, value), option in zip(typed, options, strict=True):
        assert option.is_required or parse(value, place="x") == option.value


@pytest.mark.parametrize("command", KINDS)
def test_the_list_of_components_is_a_mapping_by_name(command):
    document = json.loads(_shown(command, "--json"))
    (by_name,) = [value for key, value in document.items() if key != "schema"]
    assert list(by_name) == KINDS[command][0].names()
    name = next(iter(by_name))
    (alone,) = [v for k, v in json.loads(_shown(command, name, "--json")).items() if k != "schema"]
    assert alone == {name: by_name[name]}


def test_explanations_come_as_json_too():
    ness = json.loads(_shown("methods", "ness", "--json"))["methods"]["ness"]
    eps1 = ness["explained"]["methods.ness.eps1"]
    assert (eps1["default"], eps1["in_effect"], eps1["required"]) == (None, 0.001, False)
    assert eps1["type"] == "number > 0 | null"
    assert ness["options"]["eps1"] is None
    npz = json.loads(_shown("datasets", "npz", "--json"))["sources"]["npz"]
    assert npz["required"] == ["path"]
    lr = json.loads(_shown("settings", "train.lr", "--json"))["settings"]["train.lr"]
    assert [(each["default"], each["components"]) for each in lr] == [(0.01, [])]


def test_a_null_says_what_it_amounts_to():
    for words in (["methods", "ness"], ["settings", "methods.ness.eps1"]):
        shown = _shown(*words)
        assert "methods.ness.eps1=0.001\n  number > 0 | null; the default, stored as null" in shown
        assert "methods.ness.eps1=null" not in shown


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("methods", "nes"), "did you mean 'ness'"),
        (("networks", "alexnt"), "did you mean 'alexnet'"),
        (("datasets", "cifar"), "did you mean 'cifar10'"),
        (("settings", "lr"), "did you mean 'train.lr'"),
        (("settings", "trian"), "did you mean 'train'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_near_ones(words, near):
    assert near in _refused(*words)


def test_settings_are_listed_by_section_and_explained_by_place():
    listed = _shown("settings")
    words = set(listed.replace(",", " ").split())
    for option in all_options():
        section, _, rest = option.key.partition(".")
        assert section in words
        assert section == "methods" or not rest or rest in words
    assert "``" not in listed
    assert _shown("settings", "train.lr") in _shown("settings", "train")
    assert "train.sam.rho=0.05" in _shown("settings", "train.sam")
    assert "train.lr_min" not in _shown("settings", "train.lr")


def test_a_setting_in_which_components_differ_says_whose_each_is():
    shown = " ".join(_shown("settings", "data.test_fraction").split())
    assert "data.test_fraction=0.2 0 < number < 1; with data.source=digits" in shown
    assert "data.test_fraction=0.1 0 < number < 1; with data.source=notmnist" in shown


def test_the_long_form_of_a_data_source_and_the_other_commands_remain():
    assert _shown("datasets", "show", "npz") == _shown("datasets", "npz")
    assert "decode" in _shown("datasets", "check", "--help").lower()
    assert "NAME" in _shown("datasets", "--help")
