"""What a setting may be, in the notation that it is typed in: ``0 <= number < 1 | null``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ness_cli.settings.yaml_files import typed

Schema = Mapping[str, Any]
_WORDS = {"integer": "whole number", "number": "number", "string": "text", "null": "null"}


def kind_of(schema: Schema, definitions: Schema) -> str:
    """Return what the JSON schema of a field allows.

    Args:
        schema: Of the field.
        definitions: What it refers to.
    """
    if "$ref" in schema:
        return kind_of(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        kinds = [kind_of(each, definitions) for each in schema["anyOf"]]
        return " | ".join(dict.fromkeys(kinds))
    if words := choices_of(schema):
        return " | ".join(words)
    kind = schema.get("type")
    if kind == "array":
        return _list(schema, definitions)
    if kind == "object":
        return _group(schema, definitions)
    return _bounded(_WORDS.get(str(kind), "value"), schema)


def choices_of(schema: Schema) -> tuple[str, ...]:
    """Return the words that a field may be, as they are typed; empty if it has no such list."""
    if "anyOf" in schema:
        found = [word for each in schema["anyOf"] for word in choices_of(each)]
        return (*dict.fromkeys(found), "null") if _is_nullable(schema) and found else tuple(found)
    if "enum" in schema:
        return tuple(typed(value) for value in schema["enum"])
    if "const" in schema:
        return (typed(schema["const"]),)
    return ("true", "false") if schema.get("type") == "boolean" else ()


def _is_nullable(schema: Schema) -> bool:
    return {"type": "null"} in schema["anyOf"]


def _list(schema: Schema, definitions: Schema) -> str:
    if "prefixItems" in schema:
        return f"[{', '.join(kind_of(item, definitions) for item in schema['prefixItems'])}]"
    return f"[{kind_of(schema['items'], definitions)}, ...]"


def _group(schema: Schema, definitions: Schema) -> str:
    inner = schema.get("additionalProperties")
    value = kind_of(inner, definitions) if isinstance(inner, Mapping) and inner else "value"
    return f"{{name: {value}, ...}}"


def _bounded(word: str, schema: Schema) -> str:
    """Return a number with its bounds around it: ``0 < number <= 1``, ``number >= 1``."""
    bounds = {
        sign: schema[name]
        for name, sign in (
            ("minimum", ">="),
            ("exclusiveMinimum", ">"),
            ("maximum", "<="),
            ("exclusiveMaximum", "<"),
        )
        if name in schema
    }
    below = next((sign for sign in bounds if sign[0] == ">"), None)
    above = next((sign for sign in bounds if sign[0] == "<"), None)
    if below and above:
        turned = below.replace(">", "<")
        return f"{bounds[below]:g} {turned} {word} {above} {bounds[above]:g}"
    return " ".join([word, *(f"{sign} {bound:g}" for sign, bound in bounds.items())])
