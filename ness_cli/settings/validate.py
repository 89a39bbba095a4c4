"""Validate plain values against a model, and say all that is wrong in readable lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_origin

from pydantic import ValidationError

from ness_cli.errors import SettingsError
from ness_cli.settings import yaml_files
from ness_cli.settings.base import Section
from ness_cli.settings.suggest import unknown_key
from ness_cli.words import counted

# What pydantic calls the kind of value it expected, in words of the file that the user writes.
_KINDS = {
    "bool_type": "true or false",
    "dict_type": "a group of settings",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "invalid-json-value": "text, a number, true, false, a list or a group of them",
    "list_type": "a list",
    "model_attributes_type": "a group of settings",
    "model_type": "a group of settings",
    "string_type": "text",
    "tuple_type": "a list",
}
_REMEDY = "ness settings explains them all, ness settings KEY one of them"
_BRANCHES = {*_KINDS, "literal_error"}  # what each branch of a union says of the value as a whole


class NestedProblemsError(ValueError):
    """Problems that a model found in its parts, in readable lines.

    Args:
        problems: The lines.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def validate(
    model: type[Section], values: object, prefix: str, problems: list[str]
) -> Section | None:
    """Return the model built from values, or ``None`` with its problems added to the list."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems.extend(_readable(model, error, prefix))
        return None


def _readable(model: type[Section], error: ValidationError, prefix: str) -> Iterator[str]:
    """Yield one line per place at fault."""
    places: dict[str, list[Mapping[str, Any]]] = {}
    for problem in error.errors():
        nested = problem.get("ctx", {}).get("error")
        if isinstance(nested, NestedProblemsError):
            yield from nested.problems
        elif problem["type"] == "extra_forbidden":
            yield _unknown_key(model, problem["loc"], prefix)
        else:
            places.setdefault(_place(model, problem["loc"], prefix), []).append(problem)
    for place, own in places.items():
        # A list of which an item cannot be used is too short only for want of that item.
        has_bad_items = any(other.startswith(f"{place}[") for other in places)
        if not (has_bad_items and all(_is_of_the_whole(problem) for problem in own)):
            yield f"{place}: {_sentence(own)}"


def _place(model: type[Section], loc: Sequence[int | str], prefix: str) -> str:
    """Return the key at fault, with the number of an item in a list, without union branches."""
    place = prefix
    kind: Any = model
    for part in loc:
        if isinstance(part, int):
            return f"{place}[{part}]"
        known = getattr(kind, "model_fields", {})
        if part in known:
            kind = known[part].annotation
        elif get_origin(kind) is dict:
            kind = None
        else:
            continue
        place += f".{part}"
    return place


def _unknown_key(model: type[Section], loc: Sequence[int | str], prefix: str) -> str:
    kind: Any = model
    for part in loc[:-1]:
        kind = kind.model_fields[part].annotation
    return unknown_key(".".join([prefix, *map(str, loc)]), list(kind.model_fields))


def _is_of_the_whole(problem: Mapping[str, Any]) -> bool:
    return problem["type"] in {*_BRANCHES, "too_short"}


def _sentence(problems: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong in one place; of a union, what the branch says that was meant."""
    specific = [each for each in problems if each["type"] not in _BRANCHES]
    if specific:
        return ", or ".join(dict.fromkeys(map(_clause, specific)))
    # Deeper inside the value is nearer to what is wrong.
    depth = max(len(each["loc"]) for each in problems)
    values = {repr(each["input"]) for each in problems}
    deepest = [each for each in problems if len(values) == 1 or len(each["loc"]) == depth]
    kinds = dict.fromkeys(map(_expected, deepest))
    return f"{_shown(deepest[0]['input'])} should be {' or '.join(kinds)}"


def _expected(problem: Mapping[str, Any]) -> str:
    kind = _KINDS.get(problem["type"])
    return kind or str(problem["msg"]).replace("Input should be ", "")


def _clause(problem: Mapping[str, Any]) -> str:
    """Return a problem that is more than a wrong kind of value."""
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    if kind == "missing":
        # Of a list, the place has the number of the item.
        return (
            f"is missing from {_shown(value)}" if isinstance(value, list | tuple) else "is required"
        )
    if kind == "value_error":
        return str(context["error"])  # of several fields together: it names them itself
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        number = counted(context["min_length" if least else "max_length"], "item")
        return f"{_shown(value)} should have {number} {'or more' if least else 'at most'}"
    return f"{_shown(value)} {str(problem['msg']).replace('Input should', 'should')}"


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, str) else yaml_files.typed(value)


def refusal(problems: Sequence[str]) -> SettingsError:
    """Return one error that lists all problems."""
    if len(problems) == 1:
        return SettingsError(problems[0], _REMEDY)
    lines = "\n".join(f"  {problem}" for problem in problems)
    return SettingsError(f"{len(problems)} settings cannot be used:\n{lines}", _REMEDY)
