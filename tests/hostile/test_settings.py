"""Settings, presets, studies and overrides of any kind: valid, or refused in one line."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ness_cli.errors import InputError, NessError, SettingsError
from ness_cli.settings import yaml_files
from ness_cli.settings.resolve import resolve
from ness_cli.settings.study_files import read_study

KEYS = [
    "train",
    "train.lr",
    "train.epochs",
    "train.batch_size",
    "data",
    "data.path",
    "data.source",
    "data.size",
    "data.sources",
    "data.classes_per_task",
    "data.order",
    "data.exclude",
    "net",
    "net.name",
    "net.hidden",
    "net.arguments",
    "method",
    "method.name",
    "methods",
    "methods.ness",
    "methods.ness.eps1",
    "seed",
    "norm",
    "compute",
    "storage.keep",
    "track.to",
    "checkpoint.seconds",
    "evaluate.scenario",
    "about",
    "extends",
    "name",
    "engines",
    "a",
    "data..path",
    ".a",
    "a.",
]
STUDY_KEYS = [
    "base",
    "seeds",
    "settings",
    "rows",
    "grid",
    "choices",
    "choose",
    "again",
    "threads",
    "engines",
    "fork_after",
]
NASTY = [
    "!!timestamp x", "!!binary aGVsbG8=", "!!set {a}", "!!omap [a: 1]", '!!int ""', "!!bool x",
    "!!float x", "!!python/object/apply:os.system [x]", "!!map [a]", "!!seq {a: b}", "!!str [a]",
    "0x" + "f" * 6000, "9" * 5000, "9" * 4000, "1e999", "-.inf", ".nan", "[" * 60, "{a: " * 60,
    "&a [*a]", "{<<: 3}", "{<<: [1]}", "<<", "=", "{a: 1, a: 2}", "{? : }", "? [a]\n: b",
    "- a\n- b", "a: b: c", "%YAML 9.9", "---\n...", "\x00", "\x1b[31m", '"\\0"', '"\\ud800"',
    "null", '""', "[]", "{}", "true", "-1", "0", "2024-05-01", "@", "`", "x" * 10_000, "*a",
    "[[]]", "[null]", "[{}]", "{1: 2}", "{a: {b: {c: 1}}}", "bold", "../..", "/", "~root/x", "ness",
]  # fmt: skip
VALUES = st.sampled_from(NASTY) | st.text(max_size=30)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=8,
)
COUNTS = [20, pytest.param(3000, marks=pytest.mark.slow)]


def _many(count, test):
    """Call a test with so many examples."""
    limits = {"suppress_health_check": list(HealthCheck), "database": None, "deadline": None}
    settings(max_examples=count, derandomize=True, **limits)(test)()


@contextlib.contextmanager
def _refused_in_one_line():
    refusals = []
    try:
        yield
    except NessError as error:
        refusals.append(error)
    for error in refusals:
        assert isinstance(error, SettingsError | InputError)
        assert error.what
        assert error.exit_code in (2, 4)


@pytest.mark.parametrize("count", COUNTS)
def test_overrides(count):
    @given(st.lists(st.tuples(st.sampled_from(KEYS) | st.text(max_size=9), VALUES), max_size=3))
    def test(pairs):
        with _refused_in_one_line():
            resolve("digits", [f"{key}={value}" for key, value in pairs])

    _many(count, test)


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("key", ["data.size"])
def test_every_nasty_value_is_met_once(key, value):
    with _refused_in_one_line():
        resolve("digits", [f"{key}={value}"])


@pytest.mark.parametrize("count", COUNTS)
def test_presets(count, tmp_path):
    path = tmp_path / "mine.yaml"

    @given(st.dictionaries(st.sampled_from(KEYS), PLAIN, max_size=5) | PLAIN, st.booleans())
    def test(content, extends):
        if isinstance(content, dict):
            content = {"extends": "digits", **content} if extends else content
            text = "".join(f"{key}: {_flow(value)}\n" for key, value in content.items())
        else:
            text = _flow(content)
        path.write_text(text, "utf-8", "surrogatepass")
        with _refused_in_one_line():
            resolve(str(path))

    _many(count, test)


@pytest.mark.parametrize("count", COUNTS)
def test_studies(count, tmp_path):
    path = tmp_path / "study.yaml"

    @given(st.dictionaries(st.sampled_from(STUDY_KEYS), PLAIN | VALUES, max_size=5))
    def test(content):
        path.write_text(
            "".join(f"{key}: {_flow(value)}\n" for key, value in content.items()),
            "utf-8",
            "surrogatepass",
        )
        with _refused_in_one_line():
            read_study(path).resolved()

    _many(count, test)


@pytest.mark.parametrize("count", [100, pytest.param(20_000, marks=pytest.mark.slow)])
def test_bytes_are_yaml_or_not(count, tmp_path):
    path = tmp_path / "mine.yaml"
    pieces = st.sampled_from([b"a: ", b"&x ", b"*x", b"<<: ", b"[", b"]", b"{", b"}", b"\n", b"  "])
    tags = st.sampled_from([b"!!int ", b"!!map ", b"'", b'"', b"- ", b"| ", b"? ", b"\xff", b"#"])

    @given(st.lists(pieces | tags | st.binary(max_size=3), max_size=20))
    def test(data):
        path.write_bytes(b"".join(data))
        with _refused_in_one_line():
            yaml_files.read(path)

    _many(count, test)


def _flow(value: object) -> str:
    """Return a value as flow YAML, whatever it is."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return repr(value) if isinstance(value, str) else {None: "null"}.get(value, str(value))


def _bomb(levels: int, merged: bool) -> str:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for k in range(levels):
        inner = ", ".join([f"*a{k}"] * 10)
        lines.append(f"a{k + 1}: &a{k + 1} " + (f"{{<<: [{inner}]}}" if merged else f"[{inner}]"))
    return "\n".join(lines)


@pytest.mark.parametrize("merged", [True, False])
def test_aliases_of_aliases_ask_for_no_memory(merged):
    yaml_files.parse(_bomb(2, merged), place="here")
    with pytest.raises(SettingsError, match="without end"):
        yaml_files.parse(_bomb(12, merged), place="here")


def test_a_thousand_merged_groups_are_refused():
    text = "a: &a {x: 1}\nb: {<<: [" + ", ".join(["*a"] * 1000) + "]}"
    with pytest.raises(SettingsError, match="more than 20 groups are merged"):
        yaml_files.parse(text, place="here")


def test_a_grid_of_more_rows_than_any_memory_holds(tmp_path):
    path = tmp_path / "study.yaml"
    lists = "".join(f"  train.a{k}: {list(range(100))}\n" for k in range(10))
    path.write_text(f"base: digits\ngrid:\n{lists}")
    with pytest.raises(SettingsError, match=r"grid: 1000+ combinations; a study has 10000 at most"):
        read_study(path)


def test_settings_of_a_study_that_are_no_list(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("base: digits\nsettings: 3\nrows: {a: []}\n")
    with pytest.raises(SettingsError, match="settings"):
        read_study(path)
