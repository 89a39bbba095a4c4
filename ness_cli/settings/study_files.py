"""Study files: read, with everything that is wrong said at once, each with its line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ness_cli.errors import InputError, SettingsError, did_you_mean
from ness_cli.settings import yaml_files
from ness_cli.settings.base import Section
from ness_cli.settings.precedence import locate, parse_overrides
from ness_cli.settings.resolve import Base, Resolved
from ness_cli.settings.study import (
    ENGINES,
    AgainSettings,
    ChooseSettings,
    SearchSettings,
    StudySettings,
    Variant,
)
from ness_cli.settings.validate import refusal, validate
from ness_cli.settings.values import merge

_OF_THE_STUDY = "engines"
"""What is typed as ``key=value`` and is no setting of runs: ``engines.local.per_gpu=4``."""


@dataclass(frozen=True)
class StudyFile:
    """A study as it was asked for.

    Attributes:
        path: Its file.
        settings: What stands in it, and what was typed beside it.
        changes: What of that was typed, as the file would have it.
    """

    path: Path
    settings: StudySettings
    changes: Mapping[str, Any]

    @property
    def base(self) -> str:
        """The preset that rows start from; a file is looked for beside that of the study."""
        base = self.settings.base
        is_file = base.endswith((".yaml", ".yml")) or "/" in base
        return str((self.path.parent / base).absolute()) if is_file else base

    def variants(self, rows: Iterable[str] | None = None) -> list[Variant]:
        """Return all sets of settings, in the order of the rows; those of some rows if named."""
        wanted = self.settings.combinations if rows is None else rows
        return [each for row in wanted for each in self.settings.variants(row)]

    def resolved(self, rows: Iterable[str] | None = None) -> dict[str, Resolved]:
        """Return the settings of every variant by its name, with the first seed of the study.

        Args:
            rows: Names of those that are wanted; all if ``None``.

        Raises:
            SettingsError: With everything that is wrong in every row.
            InputError: If the base is a file that is not there.
        """
        base, found, problems = self._preset(), {}, []
        for variant in self.variants(rows):
            key = f"rows.{variant.row}"
            try:
                typed = parse_overrides(variant.settings)
                own = base.resolve({**typed, "seed": self.settings.seeds[0]})
            except SettingsError as error:
                problems.append(self.located(f"{key}: {error.what}"))
                continue
            if self._is_compared(variant.row) and not own.settings.evaluate.validation:
                problems.append(self.located(f"{key}: a choice needs evaluate.validation=true"))
            found[variant.name] = own
        if problems:
            raise refusal(problems)
        return found

    def _preset(self) -> Base:
        """Return what rows start from; read once, as hundreds of rows start from it."""
        try:
            return Base.read(self.base)
        except (InputError, SettingsError) as error:
            problem = f"base: {error.what.removeprefix('--preset: ')}"
            raise type(error)(self.located(problem), error.remedy) from error

    def _is_compared(self, row: str) -> bool:
        """Return whether something is chosen by the validation accuracy of a row."""
        again = self.settings.again
        return row in self.settings.choices or (again is not None and row not in again.but)

    def located(self, problem: str) -> str:
        """Return a line that begins with a key of the study, with the line it stands in."""
        if not self.path.is_file():
            return problem
        return locate(problem, path=self.path, typed=list(self.changes))


def read_study(path: Path, overrides: Sequence[str] = (), **options: Any) -> StudyFile:
    """Read a study.

    Args:
        path: Its file.
        overrides: ``key=value`` strings: settings of every run, and ``engines.*``.
        options: Values of keys that were given as options (``base``, ``seeds``); ``None`` counts
            for nothing.

    Raises:
        SettingsError: With every problem found, at once; settings of rows are not looked at.
        InputError: If the file is not there.
    """
    try:
        values = yaml_files.read(path)
    except InputError as error:
        raise InputError(error.what, "name the YAML file of a study") from error
    return build_study(path, values, changes_of(values, overrides, options))


def changes_of(
    values: Mapping[str, Any], overrides: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what was typed beside a study, as its file would have it."""
    own = [each for each in overrides if each.partition(".")[0] == _OF_THE_STUDY]
    of_runs = [each for each in overrides if each not in own]
    parse_overrides(of_runs)  # refuses what is no key=value, before it is taken for a row's
    changes = {key: value for key, value in options.items() if value is not None}
    changes |= parse_overrides(own)
    return {**changes, **({"settings": of_runs} if of_runs else {})}


def build_study(path: Path, values: Mapping[str, Any], changes: Mapping[str, Any]) -> StudyFile:
    """Build a study from its values and what was typed beside it.

    Raises:
        SettingsError: With every problem found, at once.
    """
    own = values.get("settings") or []
    if isinstance(own, list):  # what is none is refused with all other problems
        own = [*own, *changes.get("settings", ())]
    merged = {**merge(values, changes), "settings": own}
    problems: list[str] = []
    found = validate(StudySettings, merged, problems, unknown=_unknown)
    if found is not None:
        problems += found.problems()
    if found is None or problems:
        located = partial(locate, path=path, typed=list(changes)) if path.is_file() else str
        keys = f"a study has the keys {', '.join(StudySettings.model_fields)}"
        raise refusal([f"{path.name}: {located(each)}" for each in problems], keys)
    return StudyFile(path, found, changes)


def _unknown(key: str) -> str:
    """Return what is wrong with a key that a study does not have."""
    engines = {f"engines.{name}": model for name, model in ENGINES.models().items()}
    groups: dict[str, type[Section]] = {
        "": StudySettings,
        "choose": ChooseSettings,
        "again": AgainSettings,
        "search": SearchSettings,
        **engines,
    }
    known = [
        f"{g}.{name}".lstrip(".") for g, model in groups.items() for name in model.model_fields
    ]
    return f"{key}: unknown key{did_you_mean(key, [*known, *engines])}"
