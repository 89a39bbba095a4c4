from __future__ import annotations

import pytest

from ness_cli.settings import presets, yaml_files
from ness_cli.settings.components import CHOICES
from ness_cli.settings.explain import all_options, options_of
from ness_cli.settings.methods.ness import Options as Ness
from ness_cli.settings.reproduction import About
from ness_cli.settings.resolve import build, resolve
from ness_cli.settings.sections import TrainSettings
from ness_cli.settings.values import flatten

OPTIONS = [*all_options(), *options_of(About, "about.")]


def _find(key: str):
    return [option for option in OPTIONS if option.key == key]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: f"{o.key} {' '.join(o.components)}")
def test_every_setting_is_explained_in_a_sentence(option):
    assert option.text[0].isupper() or option.text[0] == "`" or option.text[0].isdigit()
    assert option.text.endswith(".")
    assert len(option.text.split()) >= 2
    assert "``" not in option.text
    assert option.kind


@pytest.mark.parametrize("key", CHOICES)
def test_every_component_has_all_its_fields_among_the_settings(key):
    section = key.partition(".")[0]
    for name in CHOICES[key].names():
        model = CHOICES[key].model(name, setting=key)
        prefix = f"methods.{name}" if section == "method" else section
        here = {o.key for o in all_options({**_digits(), key: name})}
        assert {f"{prefix}.{field}" for field in model.model_fields} <= here


def _digits() -> dict[str, str]:
    return {"data.source": "digits", "net.name": "mlp", "method.name": "ness"}


def test_the_settings_of_a_run_are_those_that_it_has():
    mine = [option.key for option in all_options(_digits())]
    assert set(mine) == set(resolve("digits").settings.flat())
    assert len(mine) == len(set(mine))


@pytest.mark.parametrize(
    ("key", "kind", "choices"),
    [
        ("train.lr", "number > 0", ()),
        ("train.momentum", "0 <= number < 1", ()),
        ("train.optimizer", "sgd | adam | adamw", ("sgd", "adam", "adamw")),
        ("compute.channels_last", "true | false | null", ("true", "false", "null")),
        ("net.batch_norm", "true | false", ("true", "false")),
        ("data.split_seed", "whole number >= 0 | run", ("run",)),
        ("data.mean", "[number, ...] | null", ()),
        ("net.hidden", "[whole number >= 1, ...]", ()),
        ("methods.ness.layer_eps1", "{name: number > 0, ...}", ()),
        ("methods.ness.eps1", "number > 0 | null", ()),
        ("train.sam.rho", "number > 0", ()),
        ("seed", "whole number >= 0", ()),
    ],
)
def test_what_a_setting_may_be_is_written_as_it_is_typed(key, kind, choices):
    option = _find(key)[0]
    assert (option.kind, option.choices) == (kind, choices)


@pytest.mark.parametrize("key", CHOICES)
def test_a_component_is_chosen_among_those_that_there_are(key):
    (option,) = _find(key)
    assert list(option.choices) == CHOICES[key].names()
    assert option.default in option.choices


def test_defaults_are_those_of_the_models():
    plain = {"train": {}}
    for option in options_of(TrainSettings, "train."):
        value = yaml_files.parse(option.assignment.partition("=")[2], place=option.key)
        target = plain
        *parents, last = option.key.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    assert build(plain).train == TrainSettings()


def test_variants_of_a_setting_say_whose_they_are():
    protocols = {o.default: o.components for o in _find("data.protocol")}
    assert protocols["permuted"] == ("data.source=digits",)
    assert "data.source=npz" in protocols["split"]
    (heads,) = _find("net.heads")
    assert heads.components == ()


# -- what a null amounts to ----------------------------------------------------------------------


@pytest.mark.parametrize("threshold", ["nuclear", "frobenius"])
def test_the_eps1_shown_is_the_one_that_counts(threshold):
    options = Ness(threshold=threshold)
    assert options.in_effect() == {"eps1": options.eps1_of("any")}
    assert Ness(threshold=threshold, eps1=0.5).in_effect() == {}


def test_a_rule_without_a_default_shows_none():
    assert Ness(threshold="knee").in_effect() == {}
    assert Ness(threshold="rms", eps1=0.1).in_effect() == {}


@pytest.mark.parametrize("name", presets.names())
def test_what_is_in_effect_is_shown_only_of_nulls_and_stored_nowhere(name):
    settings = resolve(name).settings
    stored = dict(flatten(settings.to_dict()))
    for key, value in settings.in_effect().items():
        assert stored[key] is None
        assert value is not None
        assert settings.identity().get(key) is None


@pytest.mark.parametrize(
    "option",
    [o for o in all_options() if o.value is None and not o.is_required],
    ids=lambda o: f"{o.key} {' '.join(o.components)}",
)
def test_a_null_that_is_shown_says_what_there_is_without_a_value(option):
    assert "absent" in option.text


@pytest.mark.parametrize("key", CHOICES)
def test_what_a_null_amounts_to_can_be_typed_in_its_place(key):
    for name in CHOICES[key].names():
        model = CHOICES[key].model(name, setting=key)
        options = model.of_defaults()
        required = {n: "x" for n, field in model.model_fields.items() if field.is_required()}
        for field, value in options.in_effect().items():
            assert getattr(options, field) is None
            typed = yaml_files.parse(yaml_files.typed(value), place=field)
            assert getattr(model.model_validate({**required, field: typed}), field) == value
