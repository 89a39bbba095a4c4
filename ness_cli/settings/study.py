"""The file of a study: rows of settings times seeds, and how their runs are run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Annotated

from pydantic import AfterValidator, Field, JsonValue

from ness_cli.errors import did_you_mean
from ness_cli.settings.base import Section
from ness_cli.settings.components import EachOf
from ness_cli.settings.engines.base import EngineOptions
from ness_cli.settings.study_names import joined, problems_of_names, short
from ness_cli.settings.yaml_files import typed
from ness_cli.words import printable

ENGINES = EachOf("ness_cli.settings.engines", "engine", default="local")
_MOST_ROWS = 10_000  # of a grid multiplied out: no table shows more, and no memory holds all


def _all_different(seeds: list[int]) -> list[int]:
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{typed(seeds)} names a seed twice")
    return seeds


Seeds = Annotated[list[int], Field(min_length=1), AfterValidator(_all_different)]


class ChooseSettings(Section):
    """By what one of the ``choices`` of a row is chosen: validation accuracy, and nothing else."""

    tasks: int = Field(default=1, ge=1)
    """The mean after this many tasks counts; candidates are trained no further."""
    seed: int = 1
    """Seed of the candidates' runs."""


class AgainSettings(Section):
    """Which rows get more seeds, once all are through."""

    best: int = Field(ge=1)
    """This many, by validation accuracy of the first seed."""
    seeds: Seeds
    """The seeds that they get."""
    but: list[str] = Field(default=[])
    """Rows that are left out: references."""


class RangeSettings(Section):
    """Numbers from ``low`` to ``high``, whole ones where both of these are."""

    low: int | float
    """The least."""
    high: int | float
    """The greatest."""
    log: bool = False
    """Equal steps multiply: for rates and thresholds."""


class SearchSettings(Section):
    """Where ``ness tune`` looks for settings, and by what it judges them."""

    space: dict[str, list[JsonValue] | RangeSettings] = Field(min_length=1)
    """By setting: a list of values, or a range."""
    trials: int = Field(default=20, ge=1)
    """How many sets of settings are tried."""
    tasks: int | None = Field(default=None, ge=1)
    """Trials are trained up to this task, and judged by the mean over those tasks; ``null``: by all
    tasks."""
    random: int = Field(default=5, ge=1)
    """So many trials are drawn at random before the others are drawn near the good ones; and so
    many have to be through before one that lags behind their median is given up after a task."""
    seed: int = 0
    """Of the search; seeds of the runs are those of the study."""

    def problems(self) -> Iterator[str]:
        """Yield a line for everything that does not fit together."""
        for key, values in self.space.items():
            if isinstance(values, list):
                if not values:
                    yield f"search.space.{key}: a list needs values"
                names = [short(f"{key}={typed(value)}") for value in values]
                for problem in problems_of_names(names).values():
                    yield f"search.space.{key}: {problem}"
                if len(set(names)) < len(names):
                    yield f"search.space.{key}: two values would have one folder"
            elif values.low > values.high:
                yield f"search.space.{key}: low is above high"
            elif values.log and values.low <= 0:
                yield f"search.space.{key}: log needs numbers above 0"


@dataclass(frozen=True)
class Variant:
    """A set of settings, which is run with several seeds.

    Attributes:
        row: The row that it belongs to.
        name: Its folder, with forward slashes: the row's, or one inside for one of its choices.
        settings: ``key=value`` strings, those of the study first.
    """

    row: str
    name: str
    settings: tuple[str, ...]


class StudySettings(Section):
    """A study: every row is run with every seed."""

    base: str = "digits"
    """Name of a preset, or a YAML file beside the study's: what all rows start from."""
    seeds: Seeds = Field(default=[1])
    """Seeds of every row."""
    settings: list[str] = Field(default=[])
    """``key=value`` strings that hold for every row."""
    rows: dict[str, list[str]] = Field(default={})
    """Rows by name, each with its ``key=value`` strings, in the order of the table."""
    grid: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(default={})
    """Values by setting: every row is run with each combination of them; without rows the
    combinations are the rows."""
    fork_after: int | None = Field(default=None, ge=1)
    """Rows of one method share the training of the first tasks, this many, and may differ only in
    what is read after that, as thresholds."""
    choices: dict[str, Annotated[list[list[str]], Field(min_length=1)]] = Field(default={})
    """By row: lists of ``key=value`` strings, of which the best by validation images is taken."""
    choose: ChooseSettings = ChooseSettings()
    again: AgainSettings | None = None
    search: SearchSettings | None = None
    threads: int = Field(default=1, ge=1)
    """CPU threads of every run, whatever runs it: numbers depend on them."""
    engines: Annotated[dict[str, EngineOptions], ENGINES] = Field(default={})
    """Options by engine: ``local: {jobs: 2}``."""

    def problems(self) -> Iterator[str]:
        """Yield a line for everything that does not fit together."""
        if (num := max(1, len(self.rows)) * prod(map(len, self.grid.values()))) > _MOST_ROWS:
            yield f"grid: {num} combinations; a study has {_MOST_ROWS} at most"
            return
        rows = self.combinations
        if self.search is not None:
            yield from self.search.problems()
        elif not rows:
            yield "rows: a study needs some, or a grid"
        again = [] if self.again is None else self.again.but
        for key, named in {"choices": [*self.choices], "again.but": again}.items():
            for row in named:
                if row not in rows:
                    yield f"{key}: no such row {row!r}{did_you_mean(row, rows)}"
        if rows and len(rows) < num:
            yield "grid: two combinations would have one name; give them as rows"
        yield from self._names()

    def _names(self) -> Iterator[str]:
        """Yield a line for every row that cannot be a folder, and every choice that cannot."""
        for row, problem in problems_of_names(self.combinations).items():
            yield f"{f'rows.{printable(row)}' if row in self.rows else 'grid'}: {problem}"
        for row, choices in self.choices.items():
            names = [joined(map(short, choice)) for choice in choices]
            if not all(names) and len(names) > 1:
                yield f"choices.{row}: one of several is empty; write out what it leaves as it is"
            elif len(set(names)) < len(names):
                yield f"choices.{row}: two of them would have one name; give them as rows"
            for problem in problems_of_names(filter(None, names)).values():
                yield f"choices.{row}: {problem}"

    @cached_property
    def combinations(self) -> dict[str, tuple[str, ...]]:
        """Return the settings of every row, those of a grid multiplied out, by name."""
        rows = dict(self.rows) or ({"": []} if self.grid else {})
        found: dict[str, tuple[str, ...]] = {}
        for row, own in rows.items():
            for values in product(*self.grid.values()):
                added = [
                    f"{key}={typed(value)}" for key, value in zip(self.grid, values, strict=True)
                ]
                found[joined([row, *map(short, added)])] = (*own, *added)
        return found

    def variants(self, row: str) -> list[Variant]:
        """Return the settings that a row is chosen among; mostly there is nothing to choose."""
        own = (*self.settings, *self.combinations[row])
        if row not in self.choices:
            return [Variant(row, row, own)]
        return [
            Variant(row, f"{row}/{joined(map(short, choice))}", (*own, *choice))
            for choice in self.choices[row]
        ]
