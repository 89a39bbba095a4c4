"""JSON schema of a preset, for editors."""

from __future__ import annotations

from typing import Any

from ness_cli import registry
from ness_cli.settings.about import About
from ness_cli.settings.base import Section
from ness_cli.settings.explain import SEED
from ness_cli.settings.groups import COMPONENT_SECTIONS, METHODS, PLAIN_SECTIONS, options_model


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a preset file."""
    definitions: dict[str, Any] = {}

    def reference(key: str, model: type[Section]) -> dict[str, str]:
        own = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(own.pop("$defs", {}))
        definitions[key] = own
        return {"$ref": f"#/$defs/{key}"}

    properties: dict[str, Any] = {
        "extends": {"type": "string", "description": "Preset or file whose values come first."},
        "seed": {
            "type": "integer",
            "minimum": 0,
            "default": SEED.default,
            "description": SEED.text,
        },
    }
    properties["about"] = reference("about", About)
    for section, (package, _) in COMPONENT_SECTIONS.items():
        options = [
            reference(f"{section}.{name}", options_model(package, name, place=section))
            for name in registry.names(package)
        ]
        properties[section] = {"anyOf": options}
    # The model checks every data set of a sequence by its own source; so should an editor.
    sequence = definitions["data.sequence"]["properties"]["sources"]
    others = [each for each in properties["data"]["anyOf"] if "sequence" not in each["$ref"]]
    sequence["items"] = {"anyOf": others}
    for section, model in PLAIN_SECTIONS.items():
        properties[section] = reference(section, model)
    groups = {
        name: reference(f"methods.{name}", options_model(METHODS, name, place="methods"))
        for name in registry.names(METHODS)
    }
    properties["methods"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": groups,
        "description": "Options by method; only those of the chosen method matter to a run.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ness preset",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }
