"""What nothing would come of is refused, if somebody set it."""

from __future__ import annotations

import pytest

from ness_cli.errors import SettingsError
from ness_cli.settings.resolve import resolve, resolve_again

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
