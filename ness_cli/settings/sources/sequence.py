"""Several data sets one after another: folders, public sets, arrays, in any mixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, model_validator
from typing_extensions import Self

from ness_cli import registry
from ness_cli.errors import SettingsError
from ness_cli.settings.sources.base import DatasetSettings, DataSettings, Size, without_places
from ness_cli.settings.validate import NestedProblemsError, validate

# What a data set takes from the sequence unless it says otherwise.
_INHERITED = ("valid_fraction", "split_seed", "size", "fit", "channels", "path", "download")


class Options(DataSettings):
    """Options of the data source ``sequence``."""

    source: Literal["sequence"] = "sequence"
    """Data sets in sequence."""
    sources: Annotated[
        tuple[SerializeAsAny[DatasetSettings], ...], Field(strict=False, min_length=1)
    ]
    """The data sets in their order, each with the options of its own source. What is given beside
    this list (``valid_fraction``, ``split_seed``, ``size``, ``fit``, ``channels``, ``path``,
    ``download``) holds for all that do not have their own."""
    size: Size | None = None
    """Size of all images that do not set their own."""
    fit: Literal["bilinear", "lanczos", "pad"] | None = None
    """How they come to it."""
    channels: Literal["auto", "rgb", "grey"] | None = None
    """Colour or grey, likewise."""
    path: str | None = None
    """Where the files of public data sets are."""
    download: bool | None = None
    """Whether their files may be downloaded."""

    @model_validator(mode="before")
    @classmethod
    def _build_sources(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or not isinstance(values.get("sources"), list | tuple):
            return values
        inherited = {key: values[key] for key in _INHERITED if values.get(key) is not None}
        problems: list[str] = []
        sources = [
            _build(item, inherited, f"data.sources[{index}]", problems)
            for index, item in enumerate(values["sources"])
        ]
        if problems:
            raise NestedProblemsError(problems)
        return {**values, "sources": sources}

    def datasets(self) -> tuple[DatasetSettings, ...]:
        """Return the settings of every data set, in order."""
        return self.sources

    def identity(self) -> dict[str, Any]:
        """Return what decides the stream's content besides the files, as plain values."""
        plain = without_places(self.model_dump(mode="json"))
        return plain | {"sources": [each.identity() for each in self.sources]}

    def for_run(self, seed: int) -> Self:
        """Return these settings with ``split_seed: run`` replaced by the run's seed."""
        sources = tuple(each.for_run(seed) for each in self.sources)
        return super().for_run(seed).model_copy(update={"sources": sources})


def _build(item: Any, inherited: Mapping[str, Any], place: str, problems: list[str]) -> Any:
    """Return the options of one data set, filled in from the sequence; note what is wrong."""
    if isinstance(item, DatasetSettings) or not isinstance(item, Mapping):
        return item
    if "source" not in item:
        problems.append(f"{place}.source: is required")
        return item
    try:
        module = registry.load("ness_cli.settings.sources", str(item["source"]), place=place)
    except SettingsError as error:
        problems.append(f"{error.what} ({error.remedy})")
        return item
    model = module.Options
    if not issubclass(model, DatasetSettings):
        problems.append(f"{place}: {item['source']!r} cannot be part of a sequence")
        return item
    known = {key: value for key, value in inherited.items() if key in model.model_fields}
    return validate(model, {**known, **item}, place, problems)
