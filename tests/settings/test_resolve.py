from __future__ import annotations

import json

import pytest

from ness_cli.errors import SettingsError
from ness_cli.settings import yaml_files
from ness_cli.settings.components import METHODS, SOURCES
from ness_cli.settings.identity import difference
from ness_cli.settings.model import Preset
from ness_cli.settings.precedence import parse_overrides
from ness_cli.settings.resolve import build, resolve
from ness_cli.settings.values import flatten


def test_later_layers_win_and_every_value_keeps_its_origin(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: digits\ntrain:\n  lr: 0.5\n  epochs: 7\n")
    resolved = resolve(str(mine), ["train.epochs=9"], seed=4)
    train = resolved.settings.train
    assert (train.lr, train.epochs, train.batch_size) == (0.5, 9, 32)
    assert resolved.origins["train.epochs"] == "command line"
    assert resolved.origins["train.lr"] == "file mine.yaml"
    assert resolved.origins["train.batch_size"] == "preset digits"
    assert resolved.origins["train.patience"] == "default"
    assert (resolved.settings.seed, resolved.origins["seed"]) == (4, "command line")


def test_what_is_written_resolves_to_itself():
    settings = resolve("digits", ["method.name=gpm", "data.mean=[0.5]"]).settings
    again = build(json.loads(json.dumps(settings.to_dict())))
    assert again == settings
    assert again.fingerprint() == settings.fingerprint()


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("train.lr=0.123", True),
        ("seed=9", True),
        ("methods.ness.eps1=0.5", True),
        ("methods.gpm.threshold=0.5", False),  # not the chosen method
        ("checkpoint.seconds=1", False),
        ("storage.keep=latest", False),
        ("evaluate.scenario=both", False),
        ("evaluate.batch_size=10", True),
    ],
)
def test_only_what_decides_the_numbers_is_identity(override, changes):
    plain, changed = resolve("digits").settings, resolve("digits", [override]).settings
    assert (plain.fingerprint() != changed.fingerprint()) == changes
    assert bool(difference(plain.identity(), changed.identity())) == changes


@pytest.mark.parametrize("made_with", [False, True])
def test_a_run_keeps_the_layout_of_images_that_it_was_made_with(made_with):
    made = resolve("digits", [f"compute.channels_last={str(made_with).lower()}"]).settings
    asked, other = (resolve("digits", extra).settings for extra in ([], ["train.epochs=3"]))
    assert difference(made.identity(), asked.identity()) == []
    assert len(difference(made.identity(), other.identity())) == 1
    turned = resolve("digits", [f"compute.channels_last={str(not made_with).lower()}"]).settings
    assert len(difference(made.identity(), turned.identity())) == 1


def test_where_images_lie_is_no_part_of_the_identity():
    raw = {"data": {"source": "image-folder", "path": "/a"}}
    other = {"data": {"source": "image-folder", "path": ["/b", "/c"]}}
    assert build(raw).fingerprint() == build(other).fingerprint()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"trian": {}}, "did you mean 'train'"),
        ({"train": {"lrr": 1}}, "did you mean 'train.lr'"),
        (
            {"train": {"sam": {"roh": 1}}},
            "train.sam.roh: unknown key; did you mean 'train.sam.rho'",
        ),
        ({"train": {"epochs": "yes"}}, "train.epochs: 'yes'"),
        ({"train": {"epochs": 2.5}}, "train.epochs: 2.5"),
        ({"train": {"epochs": True}}, "train.epochs: true"),
        ({"train": {"lr": 0}}, "train.lr: 0 should be greater than 0"),
        ({"train": 3}, "train: 3 should be a group of settings"),
        ({"seed": -1}, "seed: -1"),
        ({"seed": "1"}, "seed: '1'"),
        ({"net": {"name": "mpl"}}, "did you mean 'mlp'"),
        ({"net": {"hidden": []}}, "net.hidden"),
        ({"net": {"hidden": [0]}}, "net.hidden"),
        ({"data": {"source": "npz"}}, "data.path: is required"),
        ({"methods": {"nes": {}}}, "did you mean 'methods.ness'"),
        ({"methods": {"ness": {"eps1": -1}}}, "methods.ness.eps1: -1"),
    ],
)
def test_a_wrong_setting_is_named_with_value_and_place(raw, words):
    with pytest.raises(SettingsError) as error:
        build(raw)
    assert words in error.value.what


def test_all_problems_are_shown_at_once():
    with pytest.raises(SettingsError) as error:
        build({"train": {"lr": -1, "epochs": 0}, "net": {"name": "x"}, "norm": {"affine": 3}})
    for place in ("train.lr", "train.epochs", "net.name", "norm.affine"):
        assert place in error.value.what


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.e-3", "+1e-3"])
def test_numbers_mean_what_they_look_like(text):
    assert yaml_files.parse(text, place="x") == pytest.approx(0.001)


@pytest.mark.parametrize("text", ["on", "off", "yes", "no", "y", "N"])
def test_words_are_words(text):
    assert yaml_files.parse(text, place="x") == text


def test_a_key_that_stands_twice_is_an_error_with_its_line():
    with pytest.raises(SettingsError, match=r"line 2: .*'a' stands twice"):
        yaml_files.parse("a: 1\na: 2", place="f.yaml")


def test_of_two_values_for_one_key_the_later_counts():
    overrides = ["train.lr=1", "train.sam={rho: 0.1, tasks: all}", "train.lr=2", "train.sam.rho=3"]
    assert parse_overrides(overrides) == {"train": {"lr": 2, "sam": {"rho": 3, "tasks": "all"}}}


@pytest.mark.parametrize("override", ["lr", "=3", ".lr=3", "train..lr=3"])
def test_an_override_without_key_or_value_is_refused(override):
    with pytest.raises(SettingsError, match="is not a setting"):
        parse_overrides([override])


def test_a_file_that_extends_itself_is_refused(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {mine}\n")
    with pytest.raises(SettingsError, match="leads back"):
        resolve(str(mine))


def _branches(schema, own):
    """Yield the JSON schemas of groups that may stand in one place, references followed."""
    for each in own.get("anyOf", [own]):
        reference = each.get("$ref", "").rpartition("/")[2]
        yield schema["$defs"][reference] if reference else each


def test_the_schema_knows_every_setting():
    schema = Preset.model_json_schema()
    assert {"extends", "about"} <= set(schema["properties"])
    assert "required" not in schema
    for preset in ("digits", "five-resnet18-quick"):
        for key, _ in flatten(resolve(preset).settings.to_dict()):
            groups = [schema]
            for part in key.split("."):
                groups = [g for g in groups if part in g.get("properties", {})]
                assert groups, key
                assert all(group["additionalProperties"] is False for group in groups)
                inner = [group["properties"][part] for group in groups]
                groups = [each for own in inner for each in _branches(schema, own)]
    json.dumps(schema)


def test_the_schema_knows_the_names_and_descriptions_of_components():
    schema = Preset.model_json_schema()
    methods = schema["properties"]["methods"]["properties"]
    assert list(methods) == METHODS.names()
    assert schema["$defs"]["MethodSettings"]["properties"]["name"]["enum"] == METHODS.names()
    data = list(_branches(schema, schema["properties"]["data"]))
    assert [each["properties"]["source"]["const"] for each in data] == SOURCES.names()
    sequence = next(each for each in data if "sources" in each["properties"])
    items = list(_branches(schema, sequence["properties"]["sources"]["items"]))
    assert "sequence" not in [each["properties"]["source"]["const"] for each in items]
    assert len(items) == len(data) - 1
    for group in (
        *data,
        *(branch for own in methods.values() for branch in _branches(schema, own)),
    ):
        assert all(own.get("description") for own in group.get("properties", {}).values())


def test_options_of_a_component_that_is_replaced_do_not_carry_over():
    settings = resolve("digits", ["net.name=alexnet", "net.width=0.5"]).settings
    assert (settings.net.name, settings.net.width) == ("alexnet", 0.5)
    changed = ["data.source=image-folder", "data.path=x"]
    data = resolve("cifar100-alexnet-quick", changed).settings.data
    # What both sources have does carry over.
    assert (data.classes_per_task, data.valid_fraction) == (10, 0.05)
    many = "data={source: sequence, sources: [{source: digits}]}"
    assert resolve("digits-split", [many]).settings.data.source == "sequence"
    with pytest.raises(SettingsError, match=r"net\.hidden: unknown key"):
        resolve("digits", ["net.name=alexnet", "net.hidden=[5]"])


@pytest.mark.parametrize(
    ("preset", "net", "width"),
    [("images", "resnet18", 20), ("five-resnet18-ness-sgdm", "alexnet", 1.0)],
)
def test_an_option_that_takes_another_kind_of_value_does_not_carry_over(preset, net, width):
    changed = ["data.source=image-folder", "data.path=x", f"net.name={net}"]
    assert resolve(preset, changed).settings.net.width == width


def test_the_same_component_keeps_its_options():
    settings = resolve("digits", ["net.name=mlp"]).settings
    assert settings.net.hidden == (384, 384)


def test_a_run_from_before_a_setting_existed_has_its_default():
    settings = resolve("digits").settings
    older = {key: v for key, v in settings.identity().items() if not key.startswith("compute.")}
    assert len(older) < len(settings.identity())
    assert difference(older, settings.identity()) == []
    other = resolve("digits", ["compute.precision=bf16", "train.lr=0.5"]).settings
    assert len(difference(older, other.identity())) == 2


def test_a_setting_added_to_the_data_sets_of_a_sequence_has_its_default_too():
    settings = resolve("five-resnet18-quick").settings
    older = settings.identity()
    older["data.sources"] = [
        {key: value for key, value in each.items() if key != "layout"}
        for each in older["data.sources"]
    ]
    assert difference(older, settings.identity()) == []
    older["data.sources"][0]["valid_fraction"] = 0.4
    assert len(difference(older, settings.identity())) == 1
