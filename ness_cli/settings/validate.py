"""Validate plain values against a model, and say all that is wrong in readable lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from ness_cli.errors import SettingsError, did_you_mean
from ness_cli.settings.base import Section


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
    """Yield one line per field at fault; the branches of a union become one line."""
    messages: dict[str, list[str]] = {}
    for problem in error.errors():
        path, fields = [prefix], model
        for part in problem["loc"]:
            known = getattr(fields, "model_fields", {})
            if not known and problem["type"] != "extra_forbidden":
                break  # the branch of a union or the index in a list
            path.append(str(part))
            annotation = known[part].annotation if part in known else None
            fields = annotation if isinstance(annotation, type) else None  # type: ignore[assignment]
        if problem["type"] == "extra_forbidden":
            parent = model if len(path) == 2 else model.model_fields[path[1]].annotation
            options = list(getattr(parent, "model_fields", {}))
            text = f"unknown key{did_you_mean(path[-1], options)}"
            text += f" (known keys: {', '.join(options) or 'none'})"
        elif problem["type"] == "missing":
            text = "is required"
        elif problem["type"] == "value_error" and not problem["loc"]:
            text = str(problem["ctx"]["error"])  # of several fields together: it names them itself
        else:
            text = f"{problem['input']!r} {problem['msg'].replace('Input should', 'should')}"
        messages.setdefault(".".join(path), []).append(text)
    for place, texts in messages.items():
        yield f"{place}: {', or '.join(dict.fromkeys(texts))}"


def refusal(problems: Sequence[str]) -> SettingsError:
    """Return one error that lists all problems."""
    if len(problems) == 1:
        return SettingsError(problems[0])
    lines = "\n".join(f"  {problem}" for problem in problems)
    return SettingsError(f"{len(problems)} settings cannot be used:\n{lines}")
