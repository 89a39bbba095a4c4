"""What every group of settings has in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard, get_origin

from pydantic import BaseModel, ConfigDict
from typing_extensions import Self

ANYTHING = "*"


def only_with(**needed: str | Sequence[str]) -> dict[str, Any]:
    """Return what marks a field as read only where another of its group has one of some values.

    It is said to whoever sets the field without. ``Field(default=6,
    json_schema_extra=only_with(schedule="plateau"))``.

    Args:
        needed: Values by the other field; ``ANYTHING`` is any but null, nothing or zero.
    """
    return {
        "only_with": {
            name: [values] if isinstance(values, str) else list(values)
            for name, values in needed.items()
        }
    }


AFTER_TRAINING: dict[str, Any] = {"read_after_training": 1}
"""Marks an option of a method that the training of task 1 does not depend on: forks may change it.
``Field(default=0.97, json_schema_extra=AFTER_TRAINING)``."""
AFTER_SECOND_TRAINING: dict[str, Any] = {"read_after_training": 2}
"""Marks one that nothing depends on before the consolidation of task 2: a fork may share that too.
"""


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys and silent conversions.

    Field docstrings become the descriptions of the JSON schema that editors read.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @classmethod
    def of_defaults(cls) -> Self:
        """Return the group with all defaults; required fields are not there at all."""
        fields = {
            name: field.get_default(call_default_factory=True, validated_data={})
            for name, field in cls.model_fields.items()
            if not field.is_required()
        }
        return cls.model_construct(**fields)

    @classmethod
    def needs(cls, name: str) -> Mapping[str, list[str]]:
        """Return what ``only_with`` says of a field, here or in a model that this one extends."""
        found: Mapping[str, list[str]] | None = cls.marked(name, "only_with")
        return found or {}

    @classmethod
    def marked(cls, name: str, mark: str) -> Any:
        """Return what a mark says of a field, here or in a model that this one extends."""
        for model in cls.__mro__:
            field = getattr(model, "__pydantic_fields__", {}).get(name)
            extra = None if field is None else field.json_schema_extra
            if isinstance(extra, Mapping) and mark in extra:
                return extra[mark]
        return None

    def groups(self, prefix: str = "") -> Iterator[tuple[str, Section]]:
        """Yield this group and all inside it, each with what stands before its keys: ``train.``."""
        yield prefix, self
        for key, inner in self._inside():
            yield from inner.groups(f"{prefix}{key}.")

    def flat(self, prefix: str = "") -> dict[str, Any]:
        """Return plain values by the keys that they are typed with: ``train.lr``."""
        return {
            f"{before}{name}": value
            for before, group in self.groups(prefix)
            for name, value in group.model_dump(
                mode="json", exclude={key.partition(".")[0] for key, _ in group._inside()}
            ).items()
        }

    def _inside(self) -> Iterator[tuple[str, Section]]:
        """Yield the groups right inside this one by key; those of a mapping one by one."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Section):
                yield name, value
            elif isinstance(value, Mapping):
                yield from (
                    (f"{name}.{key}", inner)
                    for key, inner in value.items()
                    if isinstance(inner, Section)
                )

    def in_effect(self) -> dict[str, Any]:
        """Return what fields that are null amount to, where these settings alone decide that.

        For people to read: what is stored, and a run's identity, keep the null.
        """
        return {}


def is_section(annotation: object) -> TypeGuard[type[Section]]:
    """Return whether a field's annotation is a group of settings."""
    # To Python 3.10 list[int] is a type, and yet nothing that issubclass takes.
    if not isinstance(annotation, type) or get_origin(annotation) is not None:
        return False
    return issubclass(annotation, Section)
