"""What the runs of a study are up to, as a table and as a document; no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ness_cli.results.table import Table, plain_table, titled
from ness_cli.study.folder import RunProgress
from ness_cli.study.plan import PlannedRun, StudyPlan

STATUSES = ("done", "running", "stopped", "waiting", "failed")


@dataclass(frozen=True)
class States:
    """The state of every run of a study.

    Attributes:
        plan: The study.
        runs: How far each run is that is known now.
        engine: What the engine knows of runs, by name.
    """

    plan: StudyPlan
    runs: Mapping[PlannedRun, RunProgress]
    engine: Mapping[str, str]

    @classmethod
    def of(cls, plan: StudyPlan, engine: Mapping[str, str] | None = None) -> States:
        """Return the states of all runs, from their folders."""
        return cls(plan, {run: plan.progress(run) for run in plan.runs()}, engine or {})

    @property
    def counts(self) -> dict[str, int]:
        """Number of runs by status."""
        found = Counter(progress.status for progress in self.runs.values())
        return {status: found[status] for status in STATUSES}

    @property
    def failed(self) -> dict[PlannedRun, RunProgress]:
        """The runs that failed."""
        return {run: p for run, p in self.runs.items() if p.status == "failed"}

    @property
    def words(self) -> dict[PlannedRun, str]:
        """What is said of every run: what its engine knows of it, unless it is done."""
        return {
            run: "done" if p.status == "done" else self.engine.get(run.name, p.status)
            for run, p in self.runs.items()
        }

    @property
    def is_under_way(self) -> bool:
        """Whether something goes on by itself."""
        return not {"running", "queued"}.isdisjoint(self.words.values())

    def summary(self) -> str:
        """Return the numbers in a line: ``7 of 9 runs done, 1 running, 1 failed``."""
        found = Counter(self.words.values())
        done = f"{found.pop('done', 0)} of {len(self.runs)} runs done"
        known = [word for word in STATUSES if word in found]
        return ", ".join(
            [done, *(f"{found[word]} {word}" for word in {**dict.fromkeys(known), **found})]
        )

    def table(self) -> Table:
        """Return a row per run."""
        table = plain_table("run", "status", "tasks", left=2)
        words = self.words
        for run, progress in self.runs.items():
            total = "?" if progress.num_tasks is None else progress.num_tasks
            table.add_row(run.name, words[run], f"{progress.tasks_done} of {total}")
        reasons = [f"{run.name} failed: {progress.why}" for run, progress in self.failed.items()]
        title = f"{self.plan.folder.path}: {self.summary()}"
        return titled(title, table, *reasons)

    def document(self) -> list[dict[str, Any]]:
        """Return plain values, a group per run."""
        return [
            {
                "run": str(self.plan.folder.run(run.name).path),
                "row": run.variant.row,
                "variant": run.variant.name,
                "seed": run.seed,
                "status": progress.status,
                "engine": self.engine.get(run.name),
                "tasks_done": progress.tasks_done,
                "num_tasks": progress.num_tasks,
                "why": progress.why or None,
                "log": str(self.plan.folder.log(run.name)),
            }
            for run, progress in self.runs.items()
        ]
