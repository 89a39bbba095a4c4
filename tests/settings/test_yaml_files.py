from __future__ import annotations

import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ness_cli.errors import InputError, SettingsError
from ness_cli.settings import presets, yaml_files
from ness_cli.settings.precedence import parse_overrides
from ness_cli.settings.resolve import build, resolve


def _parsed(text: str):
    return yaml_files.parse(text, place="f")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", "010"),  # YAML 1.1 says 8
        ("1:30", "1:30"),  # 90
        ("2024-05-01", "2024-05-01"),  # a date
        ("=", "="),
        ("0x10", 16),
        ("1_000", 1000),
        ("-3", -3),
        ("0", 0),
        ("~", None),
        ("", None),
        ("True", True),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("{1: a, on: b, null: c}", {"1": "a", "on": "b", "null": "c"}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1, d: 0}\nc: {<<: *x, d: 2}", {"a": {"b": 1, "d": 0}, "c": {"b": 1, "d": 2}}),
    ],
)
def test_a_value_is_what_it_looks_like(text, value):
    found = _parsed(text)
    assert (found, type(found)) == (value, type(value))
    assert not isinstance(found, datetime.date)


@pytest.mark.parametrize(
    ("data", "line", "words", "remedy"),
    [
        (b"train:\n\tlr: 1\n", 2, r"'\t'", "spaces"),
        (b"a: 1\nb: 2\na: 3\n", 3, "'a' stands twice", "keep one"),
        (b"- a\n- b\n", 1, "got a list", "key: value"),
        (b"words\n", 1, "got words", "key: value"),
        (b"a: 1\nname: caf\xe9\n", 2, "0xe9 is not UTF-8", "UTF-8"),
        ("a: 1\n".encode("utf-16"), 1, "UTF-16", "UTF-8"),
        (b"a: *b\n", 1, "undefined alias", "quotes"),
        (b"a: 1\nb: c: d\n", 2, "mapping values", "quotes"),
        (b"a: 1\n---\nb: 2\n", 2, "another document", "---"),
        (b"a: !tag x\n", 1, "!tag", "quotes"),
        (b"a: !!int x\n", 1, "'x'", "correct"),
        (b"a: 1\nb: \x07\n", 2, r"'\x07'", "take it out"),
        (b"? [1]\n: 2\n", 1, "a key must be a word", "correct"),
        (b"a: 1\nb: [1, 2\n", 3, "not readable", "brackets"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_line_and_remedy(
    data, line, words, remedy, tmp_path
):
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    with pytest.raises(SettingsError) as error:
        yaml_files.read(path)
    assert error.value.what.startswith(f"{path}, line {line}: ")
    assert words in error.value.what
    assert remedy in error.value.remedy
    assert "\n" not in error.value.what + error.value.remedy


def test_a_wrong_value_is_named_with_file_and_line(tmp_path):
    below, mine = tmp_path / "below.yaml", tmp_path / "mine.yaml"
    below.write_text("extends: digits\n\ntrain:\n  epochs: yes\n  sam:\n    rho: off\n")
    mine.write_text(f"extends: {below}\nnet: {{hiden: [5]}}\ndata:\n  mean: [x]\n")
    with pytest.raises(SettingsError) as error:
        resolve(str(mine), ["compute.channels_last=on", "train.sam.rho=no"])
    _, *lines = error.value.what.splitlines()
    assert set(map(str.strip, lines)) == {
        "train.epochs: 'yes' should be a whole number (below.yaml, line 4)",
        "net.hiden: unknown key; did you mean 'net.hidden'? (mine.yaml, line 2)",
        "data.mean[0]: 'x' should be a number (mine.yaml, line 4)",
        "compute.channels_last: 'on' should be true or false",
        "train.sam.rho: 'no' should be a number",
    }


def test_what_a_preset_says_about_itself_is_located_too(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: digits\nabout:\n  acc_tolerance: -1\n")
    with pytest.raises(SettingsError, match=r"about.acc_tolerance: .* \(mine.yaml, line 3\)$"):
        resolve(str(mine))


@pytest.mark.parametrize("text", ["a: &a {b: *a}", "a: &a [*a]"])
def test_an_alias_of_its_own_group_is_refused(text):
    with pytest.raises(SettingsError, match="without end"):
        _parsed(text)


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_holds_no_settings(data, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    assert yaml_files.read(path) == {}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbftrain: {lr: 1e-3}\r\n")
    assert yaml_files.read(path) == {"train": {"lr": 1e-3}}


def test_a_folder_is_no_settings_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        yaml_files.read(tmp_path)


# -- what is shown can be typed back -------------------------------------------------------------

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=6,
)


def _same(one: object, other: object) -> bool:
    return json.dumps(one) == json.dumps(other)  # tells 1 from 1.0 and from true


@given(PLAIN)
def test_what_is_shown_of_a_plain_value_parses_back(value):
    assert _same(_parsed(yaml_files.typed(value)), value)


@given(st.dictionaries(TEXT, PLAIN))
def test_what_is_written_of_settings_reads_back(value):
    assert _same(_parsed(yaml_files.dump(value)) or {}, value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        ([1, 2], "[1,2]"),
        ([], "[]"),
        (1e-5, "1e-05"),
        (0.1, "0.1"),
        (2.0, "2.0"),
        ("off", "off"),
        ("null", '"null"'),
        ("1e3", '"1e3"'),
        (["*"], '["*"]'),
        ({"size": 32, "padding": 4}, "{size: 32,padding: 4}"),
        ("Größe", "Größe"),
    ],
)
def test_a_value_is_shown_as_one_would_type_it(value, text):
    assert yaml_files.typed(value) == text


@pytest.mark.parametrize("name", presets.names())
def test_every_setting_of_every_preset_survives_being_shown_and_typed(name):
    settings = resolve(name).settings
    overrides = [f"{key}={yaml_files.typed(value)}" for key, value in settings.flat().items()]
    typed = build(parse_overrides(overrides))
    assert typed == settings
    assert typed.fingerprint() == settings.fingerprint()
    assert build(_parsed(yaml_files.dump(settings.to_dict()))) == settings


def test_one_group_of_many_keys_may_be_merged(tmp_path):
    path = tmp_path / "long.yaml"
    keys = "".join(f"  key{number}: {number}\n" for number in range(25))
    path.write_text(f"first: &first\n{keys}second:\n  <<: *first\n")
    found = yaml_files.read(path)
    assert found["second"] == found["first"]
