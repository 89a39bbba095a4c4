"""Validate plain values against a model, and say all that is wrong in readable lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ness_cli.errors import SettingsError
from ness_cli.settings import yaml_files
from ness_cli.settings.base import Section
from ness_cli.settings.components import CHOICES, UNKNOWN, Component
from ness_cli.settings.suggest import unknown_key
from ness_cli.settings.values import leaves
from ness_cli.words import counted

Model = TypeVar("Model", bound=Section)
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


def validate(
    model: type[Model],
    values: object,
    problems: list[str],
    prefix: str = "",
    *,
    unknown: Callable[[str], str] | None = None,
) -> Model | None:
    """Return the model built from plain values, or ``None`` with its problems added to the list.

    Args:
        model: The model.
        values: The values.
        problems: A line for everything that is wrong is added here.
        prefix: Group that the values stand in: ``about``.
        unknown: Says what is wrong with a key that the model does not have; without it, every value
            under it counts as a setting of a run.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems.extend(_readable(error, values, prefix, unknown))
        return None


def _readable(
    error: ValidationError, values: object, prefix: str, unknown: Callable[[str], str] | None
) -> Iterator[str]:
    """Yield one line per place at fault."""
    by_setting: dict[str, list[ErrorDetails]] = {}
    for problem in error.errors():
        by_setting.setdefault(_setting_of(problem, values, prefix), []).append(problem)
    for setting, own in by_setting.items():
        # A list of which an item cannot be used is too short only for want of that item.
        has_bad_items = any(other.startswith(f"{setting}[") for other in by_setting)
        if own[0]["type"] == "extra_forbidden" and unknown is not None:
            yield unknown(setting)
        elif own[0]["type"] == "extra_forbidden":
            yield from _unknown_keys(own[0], setting)
        elif own[0]["type"] == UNKNOWN:
            yield _unknown_component(own[0], setting)
        elif not (has_bad_items and all(_is_of_the_whole(problem) for problem in own)):
            yield f"{setting}: {_sentence(own)}{_meant(setting, own[0]['input'])}"


def _setting_of(problem: ErrorDetails, values: Any, prefix: str) -> str:
    """Return the key at fault, with the number of an item in a list.

    What the library names besides keys (branches of a union, components) does not stand in the
    values. Inside an item only the settings of a component have keys of their own.
    """
    setting, loc = prefix, problem["loc"]
    for part, following in zip(
        loc, [*loc[1:], None], strict=False
    ):  # none if all of it is at fault
        if isinstance(part, int):
            setting, values = f"{setting}[{part}]", values[part] if part < len(values) else None
            if not isinstance(values, Mapping) or following not in values.values():
                break
        elif isinstance(values, Mapping) and part in values:
            setting, values = f"{setting}.{part}", values[part]
        elif problem["type"] == "missing" and following is None:
            setting = f"{setting}.{part}"
    return setting.removeprefix(".")


def _unknown_keys(problem: ErrorDetails, setting: str) -> Iterator[str]:
    """Yield a line for every value under a key that is no setting."""
    owner = str(problem["loc"][-2]) if len(problem["loc"]) > 1 else ""
    for key in leaves(setting, problem["input"]):
        yield unknown_key(key, component=owner)


def _unknown_component(problem: ErrorDetails, setting: str) -> str:
    """Return why a component cannot be chosen, or that none is named."""
    component, value = Component(**problem["ctx"]), problem["input"]
    if setting.endswith(f".{component.key}"):
        return component.problem(value, setting)
    if not isinstance(value, Mapping):
        return f"{setting}: {_shown(value)} should be a group of settings{_meant(setting, value)}"
    key = f"{setting}.{component.key}"
    if component.key not in value:
        return f"{key}: is required"
    return component.problem(value[component.key], key)


def _meant(setting: str, value: object) -> str:
    """Return the setting that chooses a component, where its group was given a name."""
    choosers = [key for key in CHOICES if key.startswith(f"{setting}.")]
    return f"; did you mean {choosers[0]}={value}?" if choosers and isinstance(value, str) else ""


def _is_of_the_whole(problem: ErrorDetails) -> bool:
    return problem["type"] in {*_BRANCHES, "too_short"}


def _sentence(problems: Sequence[ErrorDetails]) -> str:
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


def _expected(problem: ErrorDetails) -> str:
    kind = _KINDS.get(problem["type"])
    return kind or str(problem["msg"]).replace("Input should be ", "")


def _clause(problem: ErrorDetails) -> str:
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


def refusal(problems: Sequence[str], remedy: str = _REMEDY) -> SettingsError:
    """Return one error that lists all problems."""
    if len(problems) == 1:
        return SettingsError(problems[0], remedy)
    lines = "\n".join(f"  {problem}" for problem in problems)
    return SettingsError(f"{len(problems)} settings cannot be used:\n{lines}", remedy)
