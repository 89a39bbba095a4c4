"""What a search ends with: the preset that it chose, the table of its trials, and a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli.errors import InputError
from ness_cli.file_kinds import require_file
from ness_cli.files import read_json, write_bytes, write_json, write_record
from ness_cli.record_shapes import TESTED
from ness_cli.results.read_run import read_run
from ness_cli.results.summary import Spread
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.settings import yaml_files
from ness_cli.settings.precedence import parse_overrides
from ness_cli.study.engines.base import Engine
from ness_cli.study.plan import PlannedRun, StudyPlan
from ness_cli.study.search import TrialResult, best_of, results_in
from ness_cli.words import counted

CHOSEN, TRIALS, TEST = "chosen.yaml", "trials.json", "test.json"
_TESTED = "ness.tune-test/1"
_METRICS = ("acc", "bwt")


@dataclass(frozen=True)
class Trials:
    """The trials of a search, as a table and as a document: validation accuracies, nothing else.

    Attributes:
        plan: The study that has the search.
        results: The trials by number.
        total: How many are asked for.
    """

    plan: StudyPlan
    results: Sequence[TrialResult]
    total: int

    @classmethod
    def of(cls, plan: StudyPlan) -> Trials | None:
        """Return those in the folder of a study; ``None`` if it has rows and was never searched."""
        search, results = plan.study.settings.search, results_in(plan.folder.path)
        if search is None or (plan.wanted_rows and not results):
            return None
        return cls(plan, results, max(search.trials, len(results)))

    @property
    def counts(self) -> dict[str, int]:
        """Number of trials by status, as runs have them; those given up are done."""
        states = Counter(each.state for each in self.results)
        return {
            "done": states["complete"] + states["pruned"],
            "running": states["running"],
            "waiting": self.total - len(self.results),
            "failed": states["failed"],
        }

    @property
    def num_left(self) -> int:
        """How many are not judged yet."""
        return self.counts["running"] + self.counts["waiting"]

    def table(self) -> Table:
        """Return a row per trial, best first."""
        keys = list(dict.fromkeys(_split(s)[0] for each in self.results for s in each.settings))
        best = best_of(self.results)
        table = plain_table("trial", *keys, "state", "tasks", "validation ACC", left=1)
        for each in sorted(self.results, key=_rank):
            values = dict(map(_split, each.settings))
            score = "-" if each.score is None else f"{each.score:.2f}"
            state = "chosen" if each is best else each.state
            tasks = str(max(each.scores, default=0))
            table.add_row(
                str(each.number + 1), *(values.get(k, "-") for k in keys), state, tasks, score
            )
        failed = [
            f"trial {each.number + 1} failed: {each.why}" for each in self.results if each.why
        ]
        over = f"{self.total - self.num_left} of {self.total} trials"
        title = f"{self.plan.folder.path}: {over}; by validation images"
        return titled(title, table, *failed)

    def document(self) -> dict[str, Any]:
        """Return plain values."""
        best, folder = best_of(self.results), self.plan.folder
        return {
            "schema": "ness.tune/1",
            "folder": str(folder.path),
            "chosen": None if best is None else list(best.settings),
            "preset": None if best is None else str(folder.path / CHOSEN),
            "trials": [
                {
                    "number": each.number + 1,
                    "settings": list(each.settings),
                    "run": str(folder.run(each.name).path),
                    "state": each.state,
                    "scores": {str(task): score for task, score in each.scores.items()},
                    "score": each.score,
                    "why": each.why or None,
                }
                for each in self.results
            ],
        }


def write_choice(trials: Trials, best: TrialResult) -> Path:
    """Write the chosen settings as a preset, and all trials; return the preset."""
    plan, results = trials.plan, trials.results
    judged = counted(len([each for each in results if each.state != "running"]), "trial")
    task = max(best.scores)
    head = (
        f"# Chosen by validation images: {best.score:.2f} % after {counted(task, 'task')}, the best"
        f" of {judged}.\n"
    )
    own = parse_overrides([*plan.study.settings.settings, *best.settings])
    path = plan.folder.path / CHOSEN
    text = head + yaml_files.dump({"extends": plan.study.base, **own})
    write_bytes(path, text.encode())
    write_json(plan.folder.path / TRIALS, trials.document())
    return path


def _split(setting: str) -> tuple[str, str]:
    key, _, value = setting.partition("=")
    return key, value


def _rank(trial: TrialResult) -> tuple[bool, float]:
    return trial.state != "complete", -(trial.score or 0.0)


def tested_choice(plan: StudyPlan, engine: Engine, runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """Bring the runs of the choice to their end, and return their accuracies on test images.

    How often that was done in a search is written down: every look makes the next one worth less.

    Args:
        plan: The study.
        engine: What runs them.
        runs: One per seed, up to the last task.

    Raises:
        InputError: If one does not come to its end.
    """
    left = [plan.job(run) for run in runs if plan.progress(run).status != "done"]
    if left:
        engine.run(left, lambda: None)
    engine.workplace.stop.check("the runs of the choice have their checkpoints", "the same command")
    for run in runs:
        if plan.progress(run).status != "done":
            raise InputError(f"{run.name} has no accuracies yet", "type the same command again")
    results = [read_run(plan.folder.run(run.name).path) for run in runs]
    found: dict[str, Any] = {
        "settings": list(runs[0].variant.settings),
        "seeds": [run.seed for run in runs],
    }
    for metric in _METRICS:
        spread = Spread.of([result.task_incremental.summary()[metric] for result in results])
        found[metric] = {"mean": spread.mean, "std": spread.std}
    return {**found, "looks": _looks(plan, found)}


def _looks(plan: StudyPlan, found: Mapping[str, Any]) -> int:
    """Write down that a choice was tested; return how many choices of the search were."""
    path, before = plan.folder.path / TEST, []
    require_file(path, "type the same command again")
    if path.exists():
        remedy = "put it back; or remove it, and choices that were tested are counted anew"
        before = read_json(path, remedy=remedy, schema=_TESTED, shape=TESTED)["tested"]
    tested = [*(each for each in before if each["settings"] != found["settings"]), dict(found)]
    write_record(path, {"schema": _TESTED, "tested": tested})
    return len(tested)
