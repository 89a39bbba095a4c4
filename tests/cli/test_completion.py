"""What shells are offered, asked the way bash, zsh and fish ask."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from ness_cli import registry
from ness_cli.cli.app import app
from ness_cli.settings import presets


def _bash(*words: str) -> list[str]:
    """Return the offers for the last of some words, each as bash has cut it."""
    line = ["ness", *words]
    asked = {"COMP_WORDS": "\n".join(line), "COMP_CWORD": str(len(line) - 1)}
    return _ask("complete_bash", asked)


def _fish(line: str) -> list[str]:
    asked = {"_TYPER_COMPLETE_ARGS": f"ness {line}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    return _ask("complete_fish", asked)


def _ask(how: str, asked: dict[str, str]) -> list[str]:
    result = CliRunner().invoke(app, [], env={"_NESS_COMPLETE": how, **asked}, prog_name="ness")
    assert result.exit_code == 0, result.output
    return [line for line in result.stdout.splitlines() if line]


# -- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--preset", ""),
        ("presets", "cat", ""),
        ("reproduce", ""),
        ("presets", "validate", ""),
    ],
)
def test_presets_are_offered(words):
    assert _bash(*words) == presets.names()


def test_only_what_begins_as_typed_is_offered():
    assert _bash("run", "--preset", "digits-s") == ["digits-split"]
    assert _bash("methods", "g") == ["gpm"]
    assert _bash("run", "--device", "c") == ["cpu", "cuda"]
    assert _bash("evaluate", "runs/a", "--scenario", "") == ["task", "class", "both"]


def test_components_are_offered():
    assert _bash("methods", "") == registry.names("ness_cli.settings.methods")
    assert _bash("networks", "") == registry.names("ness_cli.settings.nets")
    assert _bash("export", "runs/a", "out", "--to", "") == registry.names("ness_cli.export.formats")
    offered = _bash("datasets", "")
    assert {*registry.names("ness_cli.settings.sources"), "check", "show"} == set(offered)
    assert _bash("datasets", "n") == ["notmnist", "npz"]


def test_sections_and_keys_are_offered_for_explanation():
    assert {"train", "train.lr", "train.sam.rho"} <= set(_bash("settings", "train"))
    assert _bash("settings", "train.sam.") == ["train.sam.tasks", "train.sam.rho"]


# -- settings ------------------------------------------------------------------------------------


def test_keys_are_offered_with_their_equals_sign():
    assert _bash("run", "train.sam.") == ["train.sam.tasks=", "train.sam.rho="]
    assert "data.protocol=" in _bash("run", "data.")


def test_the_choices_of_a_setting_are_offered_as_soon_as_it_is_clear_which():
    assert _bash("run", "train.opt") == [
        f"train.optimizer={name}" for name in ("sgd", "adam", "adamw")
    ]
    assert _bash("run", "compute.ch") == [
        "compute.channels_last=true",
        "compute.channels_last=false",
        "compute.channels_last=null",
    ]
    methods = registry.names("ness_cli.settings.methods")
    assert _bash("run", "method.name=") == [f"method.name={name}" for name in methods]


def test_of_a_number_the_default_is_offered():
    # Two offers: the shell types what they share, and no space after the equals sign.
    assert _bash("run", "train.momen") == ["train.momentum=", "train.momentum=0.9"]


def test_bash_makes_three_words_of_a_setting():
    assert _bash("run", "train.optimizer", "=") == ["sgd", "adam", "adamw"]
    assert _bash("run", "train.optimizer", "=", "a") == ["adam", "adamw"]
    assert _bash("run", "train.lr", "=", "0.1", "norm.st") == [
        "norm.statistics=task",
        "norm.statistics=batch",
    ]


@pytest.mark.parametrize(
    ("before", "incomplete", "offered"),
    [
        ((), "net.h", ["net.heads=", "net.hidden="]),
        (("net.name=lenet",), "net.h", ["net.heads=per-task", "net.heads=shared"]),
        (("net.name", "=", "lenet"), "net.h", ["net.heads=per-task", "net.heads=shared"]),
        (("--preset", "superclass-lenet-gpm"), "methods.", None),
        (("method.name=sgp",), "methods.sgp.sc", ["methods.sgp.scale_coefficient="]),
        (("method.name=sgp",), "methods.ness", []),
        (("method.name=nonsense", "lr", "x.=1"), "net.h", ["net.heads=", "net.hidden="]),
        (("--preset", "nowhere.yaml"), "net.h", ["net.heads=", "net.hidden="]),
    ],
)
def test_settings_are_those_of_the_components_on_the_line(before, incomplete, offered):
    found = _bash("run", *before, incomplete)
    if offered is None:
        assert found
        assert all(each.startswith("methods.gpm.") for each in found)
    else:
        assert [each for each in found if "=10.0" not in each] == offered


def test_shells_that_show_help_get_the_explanation():
    (offer, *_) = _fish("run train.momen")
    assert offer == "train.momentum=\tMomentum of `sgd`."
    (offer,) = _fish("run --preset digits-rot")
    assert offer.startswith("digits-rotated\t")
