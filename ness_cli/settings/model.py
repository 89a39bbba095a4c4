"""All settings of a run, as one model; what a preset file may hold is that and a little more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from ness_cli.hashing import sha256_of_text
from ness_cli.settings.base import Section, is_section
from ness_cli.settings.components import METHODS, NETS, SOURCES
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.settings.nets.base import NetSettings
from ness_cli.settings.reproduction import About
from ness_cli.settings.sections import (
    CheckpointSettings,
    ComputeSettings,
    EvaluateSettings,
    MethodSettings,
    NormSettings,
    StorageSettings,
    TrackSettings,
    TrainSettings,
)
from ness_cli.settings.sources.base import DataSettings
from ness_cli.settings.values import flatten, group


class Settings(Section):
    """Everything that was asked of a run; see the groups for the meaning of each field."""

    # All option models are imported when the first settings are validated: a tenth of a second,
    # which commands that only name settings (report, status, completion) do without.
    model_config = ConfigDict(defer_build=True)

    seed: int = Field(default=1, ge=0)
    """Seed of the first weights, the order of images and every other random choice in training.
    Splits and orders of the data have data.split_seed."""
    data: Annotated[DataSettings, SOURCES] = Field(default_factory=SOURCES.of_default)
    """The images and how they become tasks; explained: ``ness datasets NAME``."""
    net: Annotated[NetSettings, NETS] = Field(default_factory=NETS.of_default)
    """The network; explained: ``ness networks NAME``."""
    norm: NormSettings = NormSettings()
    train: TrainSettings = TrainSettings()
    compute: ComputeSettings = ComputeSettings()
    method: MethodSettings = MethodSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    storage: StorageSettings = StorageSettings()
    checkpoint: CheckpointSettings = CheckpointSettings()
    track: TrackSettings = TrackSettings()
    methods: Annotated[Mapping[str, MethodOptions], METHODS] = Field(default={})
    """Options by method; only those of the chosen method matter to a run. Explained: ``ness methods
    NAME``."""

    @model_validator(mode="before")
    @classmethod
    def _has_options_of_its_method(cls, values: Any) -> Any:
        """Add the options of the chosen method; a group without any may stand empty."""
        if not isinstance(values, Mapping):
            return values
        name = group(values, "method").get("name", METHODS.default)
        if not METHODS.has(name) or not isinstance(values.get("methods", {}), Mapping):
            return values
        groups = {name: {}, **values.get("methods", {})}
        filled = {key: {} if own is None else own for key, own in groups.items()}
        return {**values, "methods": filled}

    @property
    def options(self) -> MethodOptions:
        """Options of the chosen method."""
        return self.methods[self.method.name]

    @property
    def notes(self) -> list[str]:
        """What every report must say of the method and of how it was computed."""
        return [*self.options.notes(), *self.compute.notes()]

    @property
    def stream(self) -> DataSettings:
        """Settings of the data, with the run's seed where they ask for it."""
        return self.data.for_run(self.seed)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values, as they stand in ``settings.yaml``."""
        return self.model_dump(mode="json")

    def in_effect(self) -> dict[str, Any]:
        """Return what settings that are null amount to, by key, where the settings decide that."""
        return {
            f"{prefix}{name}": value
            for prefix, group in self.groups()
            if group is not self
            for name, value in group.in_effect().items()
        }

    def identity(self) -> dict[str, Any]:
        """Return the part that decides the run's tensors, flat: ``{"train.lr": 0.01, ...}``.

        Options of methods that were not chosen, where the data lies, how often to save, what to
        keep and who follows the run do not belong to it.
        """
        plain = self.to_dict()
        plain["methods"] = {self.method.name: plain["methods"][self.method.name]}
        plain["evaluate"] = {"batch_size": self.evaluate.batch_size}
        plain["data"] = self.data.identity()
        del plain["storage"], plain["checkpoint"], plain["track"]
        return dict(flatten(plain))

    def fingerprint(self) -> str:
        """Return the SHA-256 of the identity, in hexadecimal."""
        return sha256_of_text(json.dumps(self.identity(), sort_keys=True))


PLAIN_GROUPS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if is_section(field.annotation) and not field.metadata
}
"""The groups of settings whose fields do not depend on a component."""


class Preset(Settings):
    """What may stand in the file of a preset: settings, and what it says about itself."""

    model_config = ConfigDict(title="ness preset", defer_build=True)

    extends: str | None = None
    """Preset or file whose values come first."""
    about: About = About()
    """What was published for it; no part of a run's settings."""
