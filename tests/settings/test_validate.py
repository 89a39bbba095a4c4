"""What is wrong with settings, in words of the file that the user writes."""

from __future__ import annotations

import pytest

from ness_cli.errors import SettingsError
from ness_cli.settings.resolve import resolve

SEQUENCE = "data.source=sequence"


def _problem(*overrides: str) -> str:
    with pytest.raises(SettingsError) as error:
        resolve("digits", overrides)
    return error.value.what


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("net.hidden=5", "net.hidden: 5 should be a list"),
        ("net.hidden=[a]", "net.hidden[0]: 'a' should be a whole number"),
        ("net.hidden=[]", "net.hidden: [] should have 1 item or more"),
        ("data.mean=[1, 2, 3, 4, 5]", "data.mean: [1,2,3,4,5] should have 4 items at most"),
        ("data.size=[5]", "data.size[1]: is missing from [5]"),
        ("data.size=[5, 6, 7]", "data.size: [5,6,7] should have 2 items at most"),
        ("data.size=abc", "data.size: 'abc' should be a whole number or a list"),
        ("data.size=[0, 3]", "data.size[0]: 0 should be greater than or equal to 1"),
        ("data.class_order=[1]", "data.class_order[0]: 1 should be text"),
        ("data.split_seed=-1", "data.split_seed: -1 should be greater than or equal to 0"),
        ("data.split_seed=x", "data.split_seed: 'x' should be a whole number or 'run'"),
        ("train.lr=abc", "train.lr: 'abc' should be a number"),
        ("train.lr=.inf", "train.lr: inf should be a finite number"),
        ("train.epochs=1.5", "train.epochs: 1.5 should be a whole number"),
        ("train.sam=5", "train.sam: 5 should be a group of settings"),
        ("train.augment=[5]", "train.augment[0]: 5 should be text or a group of settings"),
        ("train.augment=[{A: 3}]", "train.augment[0]: 3 should be a group of settings"),
        ("compute.channels_last=on", "compute.channels_last: 'on' should be true or false"),
        ("norm.statistics=x", "norm.statistics: 'x' should be 'task' or 'batch'"),
        ("method.name=null", "method.name: null should be text"),
        ("train.epochs=true", "train.epochs: true should be a whole number"),
        ("methods.ness=5", "methods.ness: 5 should be a group of settings"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_it_should_be(override, expected):
    assert _problem(override) == expected


@pytest.mark.parametrize(
    "override",
    [
        "train.augment=[{A: {b: !!timestamp 2020-01-01}}]",
        "method.name=5",
        "data.task_order=5",
        "train=5",
    ],
)
def test_no_word_of_the_library_is_left(override):
    words = _problem(override).replace(",", " ").split()
    assert not {"valid", "tuple", "Tuple", "dictionary", "integer", "instance", "JSON"} & {*words}


def test_keys_inside_of_a_group_of_any_keys_are_named():
    found = _problem("net.name=torchvision", "net.model=x", "net.arguments={a: {b: 3}, c: [x]}")
    assert "net.arguments.a: {b: 3} should be true or false or" in found
    assert "net.arguments.c[0]: 'x' should be a whole number" in found


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ("5", "data.sources: 5 should be a list"),
        ("[]", "data.sources: [] should have 1 item or more"),
        ("[5]", "data.sources[0]: 5 should be a group of settings"),
        ("[{path: x}]", "data.sources[0].source: is required"),
        ("[{source: npz}]", "data.sources[0].path: is required"),
        (
            "[{source: sequence}]",
            "data.sources[0].source: 'sequence' cannot be part of a sequence",
        ),
    ],
)
def test_a_data_set_of_a_sequence_is_named_by_its_number(sources, expected):
    assert _problem(SEQUENCE, f"data.sources={sources}") == expected


def test_all_data_sets_of_a_sequence_are_checked_at_once_against_their_own_keys():
    wrong = "[{source: digits, num_tasks: 0, foo: 1}, {source: npz, path: 3}]"
    found = _problem(SEQUENCE, f"data.sources={wrong}").splitlines()
    assert found[0] == "3 settings cannot be used:"
    assert any("data.sources[0].foo: unknown key (known keys: source, valid" in x for x in found)
    assert "  data.sources[0].num_tasks: 0 should be greater than or equal to 1" in found
    assert "  data.sources[1].path: 3 should be text" in found


@pytest.mark.parametrize("about", ["x", "[1]", "3"])
def test_what_a_preset_says_of_itself_is_a_group(about, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"extends: digits\nabout: {about}\n")
    with pytest.raises(SettingsError, match=r"about: .* should be a group of settings \(.*mine"):
        resolve(str(path))
