"""What a study will take: runs, tasks, time and disk, before anything is run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.data.stream_manifest import plan as plan_stream
from ness_cli.errors import InputError
from ness_cli.results.number_formats import human_bytes, human_seconds
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.settings.study import Variant
from ness_cli.stages.plan import Plan, plan_run
from ness_cli.study.engines.base import Engine
from ness_cli.study.plan import PlannedRun, StudyPlan
from ness_cli.study.shared_start import trunk_of
from ness_cli.study.timings import Estimate, Timings, Work
from ness_cli.words import counted

_UNKNOWN = "?"


@dataclass(frozen=True)
class RunForecast:
    """What a run will take; ``None`` for what is not known.

    Attributes:
        run: The run.
        num_tasks: Tasks that it has to do.
        estimate: How long they take.
        num_bytes: What it takes on the disk, at most.
        is_done: Whether it is done already.
    """

    run: PlannedRun
    num_tasks: int | None
    estimate: Estimate | None
    num_bytes: int | None
    is_done: bool


@dataclass(frozen=True)
class Forecast:
    """What a study will take.

    Attributes:
        plan: The study.
        runs: Its runs, of choices those that are most likely.
        at_a_time: How many of them run at a time, where the engine knows.
        image_bytes: Prepared images, which runs share.
        notes: What is not known, and why.
    """

    plan: StudyPlan
    runs: tuple[RunForecast, ...]
    at_a_time: int | None
    image_bytes: int
    notes: tuple[str, ...]

    @property
    def left(self) -> list[RunForecast]:
        """The runs that are not done."""
        return [run for run in self.runs if not run.is_done]

    @property
    def seconds(self) -> float | None:
        """Time of all runs that are left, one after another; ``None`` if one is not known."""
        known = [run.estimate.seconds for run in self.left if run.estimate is not None]
        return sum(known) if len(known) == len(self.left) else None

    def table(self) -> Table:
        """Return a line per set of settings, and what all of them take."""
        rows: dict[Variant, list[RunForecast]] = {}
        for each in self.runs:
            rows.setdefault(each.run.variant, []).append(each)
        table = plain_table("row", "runs", "done", "tasks", "time of a run", "bytes")
        for variant, own in rows.items():
            seconds = [each.estimate.seconds for each in own if each.estimate is not None]
            table.add_row(
                variant.name,
                str(len(own)),
                str(sum(each.is_done for each in own)),
                _total([each.num_tasks for each in own], str),
                human_seconds(max(seconds)) if len(seconds) == len(own) else _UNKNOWN,
                _total([each.num_bytes for each in own], human_bytes),
            )
        return titled(self.plan.study.path.name, table, *self._sums(), *self.notes)

    def _sums(self) -> Iterator[str]:
        tasks = _total([run.num_tasks for run in self.runs], str)
        yield f"{counted(len(self.runs), 'run')}, {tasks} tasks, {len(self.left)} runs left"
        if self.seconds is not None and self.left:
            own, slots = human_seconds(self.seconds), min(self.at_a_time or 1, len(self.left))
            longest = max(run.estimate.seconds for run in self.left if run.estimate is not None)
            several = human_seconds(max(longest, self.seconds / slots))
            yield f"time: about {own}" + (
                f", {several} with {slots} at a time" if slots > 1 else ""
            )
        disk = _total([run.num_bytes for run in self.runs], human_bytes)
        yield f"disk: at most {disk}, and {human_bytes(self.image_bytes)} of prepared images"

    def document(self) -> dict[str, Any]:
        """Return plain values; seconds and bytes."""
        return {
            "schema": "ness.study-plan/1",
            "folder": str(self.plan.folder.path),
            "at_a_time": self.at_a_time,
            "seconds": self.seconds,
            "image_bytes": self.image_bytes,
            "notes": list(self.notes),
            "runs": [
                {
                    "name": each.run.name,
                    "row": each.run.variant.row,
                    "seed": each.run.seed,
                    "is_done": each.is_done,
                    "num_tasks": each.num_tasks,
                    "seconds": each.estimate and each.estimate.seconds,
                    "seconds_from_runs": each.estimate.num_runs if each.estimate else 0,
                    "bytes": each.num_bytes,
                }
                for each in self.runs
            ],
        }


def _total(values: Sequence[int | None], shown: Callable[[int], str]) -> str:
    known = [value for value in values if value is not None]
    return shown(sum(known)) if len(known) == len(values) else _UNKNOWN


def forecast(plan: StudyPlan, engine: Engine, timings: Timings) -> Forecast:
    """Return what a study will take.

    Args:
        plan: The study.
        engine: What will run it.
        timings: What is known of the time of tasks.
    """
    known, notes = foreseen(plan), dict[str, None]()
    plans = _Plans(plan, notes)
    found = []
    for run in known:
        own = plans.of(run.variant)
        progress = plan.progress(run)
        num_tasks = None if own is None else len(own.manifest["tasks"])
        if num_tasks is not None and run.until is not None:
            num_tasks = min(num_tasks, run.until)
        settings = plan.resolved[run.variant.name].settings
        estimate = None
        if num_tasks is not None:
            shared = plan.study.settings.fork_after or 0
            is_fork = trunk_of(plan, run, known) is not None
            work = Work(settings.identity(), num_tasks, shared if is_fork else 0)
            estimate = timings.estimate(work)
        size = None if own is None else own.total_bytes(settings.storage.keep)
        found.append(RunForecast(run, num_tasks, estimate, size, progress.status == "done"))
    if any(each.estimate is None and not each.is_done for each in found):
        notes["time: unknown where there is no run of the same kind; --like FOLDER, --measure"] = (
            None
        )
    return Forecast(plan, tuple(found), engine.at_a_time(), plans.image_bytes, tuple(notes))


class _Plans:
    """The plans of runs by their settings; images are listed once.

    Args:
        plan: The study.
        notes: Why something cannot be planned is added here.
    """

    def __init__(self, plan: StudyPlan, notes: dict[str, None]) -> None:
        self._plan, self._notes = plan, notes
        self._plans: dict[str, Plan | None] = {}
        self._manifests: dict[str, Mapping[str, Any]] = {}

    def of(self, variant: Variant) -> Plan | None:
        """Return the plan of a run; ``None`` if its images are not there."""
        if variant.name not in self._plans:
            try:
                self._plans[variant.name] = self._made(variant)
            except InputError as error:
                self._plans[variant.name] = None
                self._notes[error.what] = None
        return self._plans[variant.name]

    def _made(self, variant: Variant) -> Plan | None:
        settings = self._plan.resolved[variant.name].settings
        key = settings.stream.model_dump_json()
        if key not in self._manifests:
            self._manifests[key] = plan_stream(settings.stream)
        manifest = self._manifests[key]
        if manifest["missing"]:
            self._notes.update(dict.fromkeys(each["what"] for each in manifest["missing"]))
            return None
        return plan_run(settings, manifest)

    @property
    def image_bytes(self) -> int:
        """Bytes of all prepared images."""
        return sum(
            split["bytes"]
            for manifest in self._manifests.values()
            for task in manifest["tasks"]
            for split in task["splits"].values()
        )


def foreseen(plan: StudyPlan) -> list[PlannedRun]:
    """Return the runs of a study, as if of several choices the first were taken."""
    settings, found = plan.study.settings, list[PlannedRun]()
    for row in plan.wanted_rows:
        variants = settings.variants(row)
        chosen = plan.chosen(row) or variants[0]
        found += [PlannedRun(chosen, seed) for seed in settings.seeds]
        rest = [variant for variant in variants if variant != chosen]
        found += [PlannedRun(each, settings.choose.seed, settings.choose.tasks) for each in rest]
    known = plan.runs()
    rule = settings.again
    more = [run for run in known if run not in found and run.until is None]
    if rule is not None and not plan.rows and not more:
        rows = [
            run.variant for run in found if run.until is None and run.variant.row not in rule.but
        ]
        best = list(dict.fromkeys(rows))[: rule.best]
        more = [PlannedRun(variant, seed) for variant in best for seed in rule.seeds]
    return [*found, *more]
