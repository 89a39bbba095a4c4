"""Several data sets one after another: folders, public sets, arrays, in any mixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from ness_cli.settings.components import SOURCES, OneOf
from ness_cli.settings.sources.base import DatasetSettings, DataSettings, Size, without_locations

_DATA_SETS = OneOf(SOURCES.package, SOURCES.key, without="sequence")

# What a data set takes from the sequence unless it says otherwise.
_INHERITED = ("valid_fraction", "split_seed", "size", "fit", "channels", "path", "download")


class Options(DataSettings):
    """Options of the data source ``sequence``."""

    model_config = ConfigDict(defer_build=True)  # the other sources may not be imported yet

    source: Literal["sequence"] = "sequence"
    """Data sets in sequence."""
    sources: Annotated[
        tuple[Annotated[DatasetSettings, _DATA_SETS], ...], Field(strict=False, min_length=1)
    ]
    """The data sets in their order, each with the options of its own source. What is given beside
    this list (``valid_fraction``, ``split_seed``, ``size``, ``fit``, ``channels``, ``path``,
    ``download``) holds for all that do not have their own."""
    size: Size | None = None
    """Size of all images that do not set their own; each data set keeps its own when absent."""
    fit: Literal["bilinear", "lanczos", "pad"] | None = None
    """How they come to it; as each data set says when absent."""
    channels: Literal["auto", "rgb", "grey"] | None = None
    """Colour or grey; as each data set says when absent."""
    path: str | None = None
    """Where the files of public data sets are; where each says when absent."""
    download: bool | None = None
    """Whether their files may be downloaded; as each says when absent."""

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, values: Any) -> Any:
        """Fill in what data sets that can have it do not set themselves."""
        if not isinstance(values, Mapping) or not isinstance(values.get("sources"), list | tuple):
            return values
        given = {key: values[key] for key in _INHERITED if values.get(key) is not None}
        return {**values, "sources": [_filled(item, given) for item in values["sources"]]}

    def datasets(self) -> tuple[DatasetSettings, ...]:
        """Return the settings of every data set, in order."""
        return self.sources

    def identity(self) -> dict[str, Any]:
        """Return what decides the stream's content besides the files, as plain values."""
        plain = without_locations(self.model_dump(mode="json"))
        return plain | {"sources": [each.identity() for each in self.sources]}

    def for_run(self, seed: int) -> Self:
        """Return these settings with ``split_seed: run`` replaced by the run's seed."""
        sources = tuple(each.for_run(seed) for each in self.sources)
        return super().for_run(seed).model_copy(update={"sources": sources})


def _filled(item: Any, given: Mapping[str, Any]) -> Any:
    if not isinstance(item, Mapping) or not _DATA_SETS.has(item.get("source")):
        return item  # said where the item is validated
    fields = _DATA_SETS.model(item["source"], setting="data.sources").model_fields
    return {**{key: value for key, value in given.items() if key in fields}, **item}
