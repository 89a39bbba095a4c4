"""The groups of settings: which there are, and which component decides on the fields of one."""

from __future__ import annotations

from ness_cli import registry
from ness_cli.settings.base import Section
from ness_cli.settings.sections import (
    CheckpointSettings,
    ComputeSettings,
    EvaluateSettings,
    MethodSettings,
    NormSettings,
    StorageSettings,
    TrainSettings,
)

PLAIN_SECTIONS: dict[str, type[Section]] = {
    "norm": NormSettings,
    "train": TrainSettings,
    "compute": ComputeSettings,
    "method": MethodSettings,
    "evaluate": EvaluateSettings,
    "storage": StorageSettings,
    "checkpoint": CheckpointSettings,
}
# Sections whose fields depend on a component: (package of the option models, key of its name).
COMPONENT_SECTIONS = {
    "data": ("ness_cli.settings.sources", "source"),
    "net": ("ness_cli.settings.nets", "name"),
}
METHODS = "ness_cli.settings.methods"
DEFAULT_COMPONENTS = {"data": "digits", "net": "mlp", "method": MethodSettings().name}
KEYS = ("seed", *COMPONENT_SECTIONS, *PLAIN_SECTIONS, "methods")
# The settings that choose a component, and the package of its option models.
COMPONENT_KEYS = {f"{section}.{key}": pkg for section, (pkg, key) in COMPONENT_SECTIONS.items()}
COMPONENT_KEYS["method.name"] = METHODS


def options_model(package: str, name: str, *, place: str) -> type[Section]:
    """Return the option model of a component.

    Raises:
        SettingsError: If there is no such component; the message names the nearest one.
    """
    model: type[Section] = registry.load_class(package, name, place=place, attribute="Options")
    return model
