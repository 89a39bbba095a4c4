"""Components among the settings: groups whose fields are those of a component, found by its name.

The markers stand in the annotations of ``Settings``, which builds its validators when it is first
used: only then all option models are imported, those of plug-ins with ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from ness_cli import registry
from ness_cli.errors import SettingsError
from ness_cli.settings.base import Section

UNKNOWN = "unknown_component"
"""Type of the error where a component is asked for that cannot be had."""


@dataclass(frozen=True)
class Component:
    """The components that something is chosen among.

    Attributes:
        package: Package of their option models.
        key: Field that holds the name of one.
        default: Name of the one that is taken where none is given.
        without: Name of one that cannot be chosen here.
    """

    package: str
    key: str
    default: str = ""
    without: str = ""

    def names(self) -> list[str]:
        """Return the sorted names of all that may be chosen."""
        return [name for name in registry.names(self.package) if name != self.without]

    def model(self, name: str, *, setting: str) -> type[Section]:
        """Return the option model of one.

        Raises:
            SettingsError: If there is no such component; the message names the nearest one.
        """
        model: type[Section] = registry.load_class(
            self.package, name, setting=setting, attribute="Options"
        )
        return model

    def of_default(self) -> Any:
        """Return the settings of the default component, all of them defaults."""
        return self.model(self.default, setting=self.key)()

    def chosen(self, values: Mapping[str, Any]) -> str:
        """Return the name in a group of plain values, or that of the default."""
        name = values.get(self.key)
        return str(self.default if name is None else name)

    def models(self) -> dict[str, type[Section]]:
        """Return the option models by name, but for plug-ins that cannot be imported.

        To choose one of these says why.
        """
        found = {}
        for name in self.names():
            with suppress(SettingsError):
                found[name] = self.model(name, setting=self.key)
        return found

    def has(self, name: object) -> bool:
        """Return whether a component can be chosen: there is one, and it can be imported."""
        try:
            return name in self.names() and bool(self.model(str(name), setting=self.key))
        except SettingsError:
            return False

    def problem(self, name: object, setting: str) -> str:
        """Return why a component cannot be chosen."""
        try:
            self.model(str(name), setting=setting)
        except SettingsError as error:
            return f"{error.what} ({error.remedy})"
        if name == self.without:
            return f"{setting}: {name!r} cannot be part of a {self.without}"
        return f"{setting}: {name!r} should be {str(name).replace('_', '-')!r}"


class OneOf(Component):
    """Marks a group of settings as those of one component, whose name is among them."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return a union of all option models, discriminated by name."""
        return core_schema.tagged_union_schema(
            {name: handler.generate_schema(model) for name, model in self.models().items()},
            self._name_in,
            custom_error_type=UNKNOWN,
            custom_error_message="unknown component",
            custom_error_context=asdict(self),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return ``anyOf``: a preset that leaves the name to the one it extends fits several."""
        return {"anyOf": handler(schema)["oneOf"]}

    def _name_in(self, values: Any) -> str | None:
        if isinstance(values, Mapping):
            name = values.get(self.key, self.default or None)
            return None if name is None else str(name)
        return getattr(values, self.key, None)


class EachOf(Component):
    """Marks a mapping by name as the option groups of components, each there or not."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return a typed dictionary with a field for every component."""
        fields = {
            name: core_schema.typed_dict_field(handler.generate_schema(model), required=False)
            for name, model in self.models().items()
        }
        return core_schema.typed_dict_schema(fields, extra_behavior="forbid")


class NameOf(Component):
    """Marks a text as the name of a component."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return text that names a component which can be had."""
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Return the list of names."""
        return {**handler(schema), "enum": self.names()}

    def _known(self, name: str) -> str:
        if not self.has(name):
            raise PydanticCustomError(UNKNOWN, "unknown component", asdict(self))
        return name


SOURCES = OneOf("ness_cli.settings.sources", "source", default="digits")
NETS = OneOf("ness_cli.settings.nets", "name", default="mlp")
METHODS = EachOf("ness_cli.settings.methods", "name", default="ness")
METHOD_NAME = NameOf(METHODS.package, "name", default=METHODS.default)
CHOICES: dict[str, Component] = {
    "data.source": SOURCES,
    "net.name": NETS,
    "method.name": METHODS,
}
"""The settings that choose a component."""
