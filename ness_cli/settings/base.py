"""What every group of settings has in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from typing_extensions import Self


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

    def flat(self, prefix: str) -> dict[str, Any]:
        """Return plain values by the keys that they are typed with.

        Args:
            prefix: What stands before the fields: ``train.``.
        """
        found: dict[str, Any] = {}
        for name, value in self.model_dump(mode="json").items():
            inner = getattr(self, name)
            if isinstance(inner, Section):
                found |= inner.flat(f"{prefix}{name}.")
            else:
                found[f"{prefix}{name}"] = value
        return found

    def in_effect(self) -> dict[str, Any]:
        """Return what fields that are null amount to, where these settings alone decide that.

        For people to read: what is stored, and a run's identity, keep the null.
        """
        return {}
