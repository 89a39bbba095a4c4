"""What nothing would come of is refused or noted, if somebody set it."""

from __future__ import annotations

import pytest

from ness_cli.errors import SettingsError
from ness_cli.settings import presets, yaml_files
from ness_cli.settings.base import ANYTHING
from ness_cli.settings.components import CHOICES
from ness_cli.settings.model import PLAIN_GROUPS
from ness_cli.settings.resolve import resolve, resolve_again
from ness_cli.settings.sections import SamSettings
from ness_cli.settings.unread import noted

OWN = ["data.source=image-folder", "data.path=x"]


@pytest.mark.parametrize(
    ("preset", "overrides", "words"),
    [
        ("digits", ["data.classes_per_task=2"], "data.classes_per_task: 2 .*protocol=permuted"),
        (None, ["data.classes_per_task=2"], "leave it out, or set data.protocol=split"),
        ("digits-rotated", ["data.classes_per_task=[5, 5]"], r"\[5, 5\] .*protocol=rotated"),
        ("digits-split", ["data.max_angle=90"], "data.max_angle: 90 .* data.protocol=rotated"),
        (None, [*OWN, "data.protocol=permuted", "data.classes_per_task=3"], "classes_per_task"),
        ("digits", [*OWN, "data.classes_per_task=3"], "classes_per_task: 3 .*protocol=permuted"),
        (
            "digits",
            ["data={source: sequence, sources: [{source: digits, classes_per_task: 5}]}"],
            r"data\.sources\[0\]\.classes_per_task: 5 .* data\.sources\[0\]\.protocol=permuted",
        ),
    ],
)
def test_a_setting_that_the_protocol_does_not_read_is_refused(preset, overrides, words):
    with pytest.raises(SettingsError, match=words):
        resolve(preset, overrides)


def test_all_problems_are_shown_with_those_of_other_sections():
    with pytest.raises(SettingsError) as error:
        resolve("digits", ["data.classes_per_task=2", "train.lr=-1"])
    assert "data.classes_per_task" in error.value.what
    assert "train.lr" in error.value.what


def test_what_a_preset_set_for_another_protocol_goes_with_it():
    data = resolve("digits-split", ["data.protocol=permuted"]).settings.data
    assert (data.protocol, data.classes_per_task) == ("permuted", 2)
    assert resolve("cifar100-alexnet-quick", ["data.source=digits"]).settings.data.protocol == (
        "permuted"
    )


def test_a_run_that_exists_may_have_every_default_written_down():
    stored = resolve("digits").settings.to_dict()
    record = {"origins": {}, "preset": "digits"}
    assert stored["data"]["classes_per_task"] == 2
    assert resolve_again(stored, record, [], None).settings.data.protocol == "permuted"
    with pytest.raises(SettingsError, match="classes_per_task"):
        resolve_again(stored, record, ["data.classes_per_task=5"], None)


def test_without_a_preset_your_own_images_start_from_their_own():
    own = resolve(None, OWN)
    assert (own.preset, resolve(None).preset) == ("images", "digits")
    assert resolve(None, ["data.source=digits"]).preset == "digits"
    assert resolve(None, ["data.path=x"]).settings == own.settings
    assert resolve("digits", OWN).settings.data.protocol == "permuted"
    settings = own.settings
    assert (settings.data.protocol, settings.data.classes_per_task) == ("split", 2)
    assert settings.options.scaling == "bounded"
    assert settings.train.augment
    assert resolve(None, ["data.source=mnist"]).settings.data.path == "data"


# -- what is worth a note ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (
            ["methods.ness.gamma=2"],
            "methods.ness.gamma: 2 has no effect with methods.ness.scaling=hard; leave it out, or "
            "set methods.ness.scaling=bounded",
        ),
        (["methods.ness.gamma=2", "methods.ness.scaling=bounded"], ""),
        (
            ["methods.ness.budget_over=pool"],
            "methods.ness.budget_over: 'pool' has no effect with methods.ness.budget=null; leave "
            "it out, or set methods.ness.budget",
        ),
        (["methods.ness.budget_over=pool", "methods.ness.budget=0.1"], ""),
        (
            ["train.patience=3"],
            "train.patience: 3 has no effect with train.schedule=cosine; leave it out, or set "
            "train.schedule=plateau",
        ),
        (["train.patience=3", "train.schedule=plateau"], ""),
        (["train.lr_min=0.1"], ""),
        (["train.lr_min=0.1", "train.schedule=constant"], "train.lr_min: 0.1 has no effect"),
        (["train.lr_decay=0.9"], "set train.schedule=exponential"),
        (["train.sam.rho=0.1"], "train.sam.rho: 0.1 has no effect with train.sam.tasks=none"),
        (["train.sam={rho: 0.1, tasks: first}"], ""),
        (["train.momentum=0.5", "train.optimizer=adam"], "train.momentum: 0.5 has no effect"),
        (["methods.ness.threshold=knee", "methods.ness.eps1=0.1"], "methods.ness.eps1: 0.1"),
        (["data.fit=pad"], "data.fit: 'pad' has no effect with data.size=null"),
        (["data.fit=pad", "data.size=9"], ""),
        (
            ["methods.gpm.threshold=0.5"],
            "methods.gpm.threshold: 0.5 has no effect with method.name=ness; leave it out, or set "
            "method.name=gpm",
        ),
        (["methods.ewc.decay=0.5", "method.name=ewc"], "set methods.ewc.merge=online"),
    ],
)
def test_a_typed_setting_that_others_leave_without_effect_is_noted(overrides, note):
    notes = [own for own in resolve("digits", overrides).notes if "has no effect" in own]
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_leftovers_of_a_preset_are_no_fault_of_whoever_changes_it():
    preset = "cifar100-alexnet-ness-sgdm-parity"
    assert resolve(preset).settings.train.schedule == "plateau"
    assert resolve(preset, ["train.schedule=cosine", "methods.ness.threshold=knee"]).notes == ()
    assert resolve("digits", ["train.optimizer=adam"]).notes == ()


def test_a_file_of_ones_own_is_taken_by_itself(tmp_path):
    mine = tmp_path / "mine.yaml"
    options = "{ness: {gamma: 2}, gpm: {threshold: 0.5}}"
    mine.write_text(
        f"extends: digits\ntrain: {{schedule: plateau, patience: 3}}\nmethods: {options}\n"
    )
    (note,) = resolve(str(mine), ["train.schedule=cosine"]).notes
    assert note.startswith("methods.ness.gamma: 2 has no effect")


def test_a_run_that_exists_notes_only_what_is_typed():
    stored = resolve("digits").settings.to_dict()
    record = {"origins": {}, "preset": "digits"}
    assert resolve_again(stored, record, [], None).notes == ()
    (note,) = resolve_again(stored, record, ["train.patience=6"], None).notes
    assert note.startswith("train.patience: 6 has no effect")


@pytest.mark.parametrize("name", presets.names())
def test_no_preset_of_ours_sets_anything_without_effect(name):
    path = presets.path_of(name)
    values = {key: own for key, own in yaml_files.read(path).items() if key != "about"}
    values.pop("extends", None)
    assert list(noted(values, resolve(name).settings.to_dict(), is_typed=False)) == []


def test_every_need_names_a_field_beside_and_values_that_it_may_have():
    found = 0
    models = [model for choice in CHOICES.values() for model in choice.models().values()]
    for model in [*models, *PLAIN_GROUPS.values(), SamSettings]:
        schema = model.model_json_schema()["properties"]
        for name in model.model_fields:
            for other, values in model.needs(name).items():
                assert values == [ANYTHING] or set(values) <= set(schema[other]["enum"])
                found += 1
    assert found > 10


@pytest.mark.parametrize("name", ["digits", "superclass-lenet-trgp", "five-resnet18-gpm", "images"])
def test_settings_of_a_run_are_a_preset_of_the_same_settings(name, tmp_path):
    """They hold every setting, those that the others leave without effect too."""
    settings, path = resolve(name).settings, tmp_path / "settings.yaml"
    path.write_text(yaml_files.dump(settings.to_dict()))
    again = resolve(str(path))
    assert again.settings.to_dict() == settings.to_dict()
    assert again.notes == ()
    if name == "digits":  # as typed it is refused all the same
        with pytest.raises(SettingsError, match=r"data\.max_angle: 180 has no effect"):
            resolve(str(path), ["data.max_angle=180"])
