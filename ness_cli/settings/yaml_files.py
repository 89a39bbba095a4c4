"""YAML that means what it looks like.

PyYAML follows YAML 1.1, where ``1e-3`` is a string, ``on`` is true and a repeated key silently
wins. Here ``1e-3`` is a number, only ``true`` and ``false`` are booleans, and a repeated key is an
error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from ness_cli.errors import InputError, SettingsError


class _Loader(yaml.SafeLoader):
    """Safe YAML with the number and boolean rules of YAML 1.2."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own way of declaring resolvers
        first: [
            (tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def parse(text: str, *, place: str) -> Any:
    """Return the value that a piece of YAML means.

    Args:
        text: The YAML.
        place: Where it stands, for the error message.

    Raises:
        SettingsError: If it is not YAML; the message has the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SettingsError(f"{place}{line}: not readable as YAML: {problem}") from error


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: If the file cannot be read.
        SettingsError: If it is not YAML or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    value = parse(text, place=str(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SettingsError(
            f"{path}: expected settings as 'key: value', got {type(value).__name__}"
        )
    return value
