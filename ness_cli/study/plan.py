"""Which runs a study has, as far as that is known, and the command of each."""

from __future__ import annotations

import fnmatch
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ness_cli.errors import DamagedError, SettingsError, did_you_mean
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_record
from ness_cli.settings.resolve import Resolved
from ness_cli.settings.study import Variant
from ness_cli.settings.study_files import StudyFile
from ness_cli.study.engines.base import Job
from ness_cli.study.folder import RunProgress, StudyFolder


@dataclass(frozen=True)
class PlannedRun:
    """A run of a study.

    Attributes:
        variant: Its settings.
        seed: Its seed.
        until: Its last task, where it is a candidate that may not be chosen.
    """

    variant: Variant
    seed: int
    until: int | None = None

    @property
    def name(self) -> str:
        """Its folder inside that of the study: ``bounded/seed-1``."""
        return f"{self.variant.name}/seed-{self.seed}"


@dataclass(frozen=True)
class StudyPlan:
    """A study in a folder.

    What is chosen among candidates, and which rows get more seeds, is known only when runs have
    ended, so the list of runs grows.

    Attributes:
        study: What is asked for.
        folder: Where its runs are.
        device: The device of every run.
        rows: Names of the rows that are wanted, as in ``rows_named``; all if empty.
    """

    study: StudyFile
    folder: StudyFolder
    device: str = "auto"
    rows: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows_named(self.rows, list(self.study.settings.combinations))

    @cached_property
    def resolved(self) -> Mapping[str, Resolved]:
        """The settings of every variant of the rows that are wanted, with the first seed."""
        return self.study.resolved(self.wanted_rows)

    @property
    def wanted_rows(self) -> list[str]:
        """The rows that are wanted, in the order of the study."""
        return rows_named(self.rows, list(self.study.settings.combinations))

    def runs(self) -> list[PlannedRun]:
        """Return every run that is known now, in the order in which they are run."""
        found = [run for row in self.wanted_rows for run in self._runs_of(row)]
        return [*found, *self._more_seeds(found)]

    def _runs_of(self, row: str) -> Iterator[PlannedRun]:
        settings, chosen = self.study.settings, self.chosen(row)
        for variant in settings.variants(row):
            if variant == chosen:
                yield from (PlannedRun(variant, seed) for seed in settings.seeds)
            else:
                yield PlannedRun(variant, settings.choose.seed, settings.choose.tasks)

    def chosen(self, row: str) -> Variant | None:
        """Return the variant of a row that is run to the end; ``None`` while it is not known."""
        variants, rule = self.study.settings.variants(row), self.study.settings.choose
        if len(variants) == 1:
            return variants[0]
        scores = {
            variant: self.validation(f"{variant.name}/seed-{rule.seed}", rule.tasks)
            for variant in variants
        }
        known = {variant: score for variant, score in scores.items() if score is not None}
        return max(known, key=known.__getitem__) if len(known) == len(variants) else None

    def _more_seeds(self, found: list[PlannedRun]) -> Iterator[PlannedRun]:
        """Yield the runs that the best rows get, once all rows are through."""
        rule, first = self.study.settings.again, self.study.settings.seeds[0]
        if rule is None or self.rows:
            return
        scores = {}
        for run in found:
            if run.until is None and run.seed == first and run.variant.row not in rule.but:
                progress = self.progress(run)
                if progress.status != "done" or progress.num_tasks is None:
                    return
                scores[run.variant] = self.validation(run.name, progress.num_tasks) or 0.0
        for variant in sorted(scores, key=scores.__getitem__, reverse=True)[: rule.best]:
            yield from (PlannedRun(variant, seed) for seed in rule.seeds)

    def validation(self, name: str, tasks: int) -> float | None:
        """Return the mean validation accuracy of a run after some tasks.

        ``None`` before them, and where its record does not read back.
        """
        try:
            row = read_record(self.folder.run(name), tasks, "evaluate").get("validation")
        except DamagedError:
            return None
        return statistics.fmean(row) if row else None

    def progress(self, run: PlannedRun) -> RunProgress:
        """Return how far a run is."""
        return self.folder.progress(run.name, run.until)

    def job(self, run: PlannedRun, until: int | None = None) -> Job:
        """Return the run for an engine.

        Args:
            run: The run.
            until: The last task for now, where others wait for it.
        """
        last, folder = run.until if until is None else until, self.folder
        command = [
            *("run", "--preset", self.study.base, "--out", str(folder.run(run.name).path)),
            *("--seed", str(run.seed), "--device", self.device),
            *("--threads", str(self.study.settings.threads)),
            *([] if last is None else ["--until", str(last)]),
            *run.variant.settings,
        ]
        return Job(
            run.name,
            tuple(command),
            folder.run(run.name).path,
            folder.log(run.name),
            folder.exit_code(run.name),
        )


def rows_named(words: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the rows that are meant, in the order of the study; all where nothing is named.

    Args:
        words: Names, several separated by commas; with ``*`` and ``?`` those that match.
        known: The rows that there are.

    Raises:
        SettingsError: If there is no such row.
    """
    wanted = set[str]()
    for word in words:
        for name in [word] if word in known else word.split(","):
            found = fnmatch.filter(known, name.strip())
            if not found:
                raise SettingsError(
                    f"--rows: no such row {name!r}{did_you_mean(name, known)}",
                    f"there are {', '.join(known)}",
                )
            wanted.update(found)
    return [row for row in known if row in wanted or not words]


def is_begun(run: RunDir) -> bool:
    """Return whether a run is prepared."""
    return run.run.exists()
