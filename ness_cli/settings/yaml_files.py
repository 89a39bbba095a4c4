"""YAML that means what it looks like.

PyYAML follows YAML 1.1, where ``1e-3`` is a string, ``on`` is true, ``010`` is eight, ``1:30`` is
ninety, ``2024-05-01`` is a date and a repeated key silently wins. Here ``1e-3`` is a number, only
``true`` and ``false`` are booleans, what else looks like a word is one, and a repeated key is an
error. What ``typed`` and ``dump`` write, ``parse`` reads back as it was.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from ness_cli.errors import InputError, SettingsError

_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
# By the character that a value begins with, as PyYAML looks them up.
_RESOLVERS = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rpartition(":")[2] in ("null", "merge")  # the others are not those of YAML 1.2
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_MERGE = "tag:yaml.org,2002:merge"  # <<: *anchor
# What to do about a problem, by words of PyYAML's message or of ours.
_REMEDIES = {
    r"'\t'": "indent with spaces, not with tabs",
    "mapping values are not allowed": "put a value with ': ' in it into quotes",
    "undefined alias": "put a value that begins with * into quotes",
    "another document": "take out the line '---'",
    "stands twice": "keep one of them",
    "cannot start any token": "put the value into quotes",
    "for the tag": "put a value that begins with ! into quotes",
}
_COMMON_REMEDY = "correct that line, or the brackets and quotes before it"
_TAGS = {f"tag:yaml.org,2002:{n}" for n in ("null", "bool", "int", "float", "str", "seq", "map")}
# Far more than any settings have: an alias of its own group has no end, and aliases of aliases
# make of a few lines more values than any memory holds.
_DEEPEST, _MOST, _MOST_MERGED = 20, 100_000, 20
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # neither names of files nor UTF-8 have them


class _Loader(yaml.SafeLoader):
    """Safe YAML with the number and boolean rules of YAML 1.2."""

    yaml_implicit_resolvers = _RESOLVERS.copy()
    depth = 0
    count = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        self.count += 1
        what = f"more than {_MOST} values" if self.count > _MOST else ""
        if self.depth > _DEEPEST:  # deeper ones would end the recursion of the library, too
            what = "groups inside groups without end"
        if what:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, what, mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key_node, value_node in node.value:
            is_list = key_node.tag == _MERGE and isinstance(value_node, yaml.SequenceNode)
            if is_list and len(value_node.value) > _MOST_MERGED:
                raise _problem(f"more than {_MOST_MERGED} groups are merged", value_node)
        super().flatten_mapping(node)
        if len(node.value) > _MOST:
            raise _problem("aliases of aliases without end", node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _problem("these are no 'key: value' pairs", node)
        seen: set[str] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _problem("a key must be a word", key_node)
            if key_node.value in seen:
                raise _problem(f"the key {key_node.value!r} stands twice", key_node)
            seen.add(key_node.value)
            if key_node.tag != _MERGE:
                key_node.tag = "tag:yaml.org,2002:str"  # the class 1 is called "1"
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in _TAGS:  # YAML knows sets, dates and bytes; settings do not
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise _problem(f"there is no value for the tag {tag}", node)
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int):
                float(value)  # what is compared with a bound, and shown, has to be a number
        except (ValueError, LookupError, OverflowError) as error:
            # Of an explicit tag, as in "!!int x" and "!!bool x", or of a number without end.
            raise _problem(f"{str(node.value)[:40]!r} is not a value: {error}", node) from error
        if isinstance(value, str) and (wrong := _NO_TEXT.search(value)):
            raise _problem(f"the character {wrong[0]!r} cannot stand in a text", node)
        return value


class _Dumper(yaml.SafeDumper):
    """Writes what ``_Loader`` reads: a word that looks like a number there is quoted."""

    yaml_implicit_resolvers = _RESOLVERS.copy()

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        # Quoted otherwise, a line break in a word would be folded.
        style = '"' if data.splitlines() not in ([], [data]) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:bool", _BOOL, list("tTfF"))
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
    _class.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))


def _problem(what: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, what, node.start_mark)


def parse(text: str, *, place: str) -> Any:
    """Return the value that a piece of YAML means.

    Args:
        text: The YAML.
        place: Where it stands, for the error message.

    Raises:
        SettingsError: If it is not YAML; the message has the line.
    """
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"the character {chr(error.character)!r} cannot stand in a text"
        raise SettingsError(
            f"{place}, line {line}: not readable as YAML: {what}", "take it out"
        ) from error
    except yaml.MarkedYAMLError as error:
        line = 1 if error.problem_mark is None else error.problem_mark.line + 1
        what = error.problem or str(error).splitlines()[0]
        remedy = next((text for words, text in _REMEDIES.items() if words in what), _COMMON_REMEDY)
        raise SettingsError(
            f"{place}, line {line}: not readable as YAML: {what}", remedy
        ) from error
    depth, count = _extent(value, {})
    if depth > _DEEPEST or count > _MOST:
        raise SettingsError(f"{place}: groups inside groups without end", "take out the alias")
    return value


def _extent(value: object, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Return how deep groups lie inside groups, and how many values there are without aliases.

    Args:
        value: What was read.
        known: The answer for groups that several aliases lead to, by identity.
    """
    if not isinstance(value, Mapping | list):
        return 0, 1
    if id(value) not in known:
        known[id(value)] = (math.inf, math.inf)  # until it is known: of a group inside of itself
        inner = value.values() if isinstance(value, Mapping) else value
        extents = [_extent(each, known) for each in inner]
        depths, counts = [each[0] for each in extents], [each[1] for each in extents]
        known[id(value)] = (1 + max(depths, default=0), 1 + sum(counts))
    return known[id(value)]


def typed(value: object) -> str:
    """Return a plain value as it is typed after ``key=``: ``null``, ``true``, ``[1,2]``, ``1e-05``.

    A shell wants quotes around brackets, braces and spaces besides.
    """
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{typed(key)}: {typed(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(typed, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    text = _item(value, None)
    # Single quotes would have to be quoted themselves in a shell.
    return _item(value, '"') if text.startswith("'") else text


@lru_cache(maxsize=4096, typed=True)  # tables of many runs have the same few words in every line
def _item(value: object, style: str | None) -> str:
    """Return a value as it stands in a list, where more characters than elsewhere need quotes."""
    text = yaml.dump(
        [value],
        Dumper=_Dumper,
        default_flow_style=True,
        default_style=style,
        allow_unicode=True,
        width=math.inf,
    )
    return str(text).strip()[1:-1]


def dump(value: Mapping[str, Any]) -> str:
    """Return settings as a YAML file has them, a line each."""
    return str(yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file, empty if nothing stands in it.

    Raises:
        InputError: If the file cannot be read.
        SettingsError: If it is not text, not YAML or not a mapping.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    value = parse(_text(data, path), place=str(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        found = "a list" if isinstance(value, list) else typed(value)
        raise SettingsError(
            f"{path}, line 1: expected settings, got {found}",
            "write 'key: value' lines, as in 'train: {lr: 0.1}'",
        )
    return value


def lines(path: Path) -> dict[str, int]:
    """Return the line of every key in a YAML file that ``read`` can read: ``{"train.lr": 3}``."""
    text = _text(path.read_bytes(), path)
    return dict(_key_lines(yaml.compose(text, Loader=_Loader), ""))


def _key_lines(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        yield f"{prefix}{key.value}", key.start_mark.line + 1
        yield from _key_lines(value, f"{prefix}{key.value}.")


def _text(data: bytes, path: Path) -> str:
    """Return the text of a file; a byte order mark, as editors on Windows put there, goes."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SettingsError(f"{path}, line 1: the text is in UTF-16", "save the file as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError(
            f"{path}, line {line}: byte {data[error.start]:#04x} is not UTF-8",
            "save the file as UTF-8",
        ) from error
