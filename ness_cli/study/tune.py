"""Choose settings by validation images: trials trained task by task, those that lag given up.

Several trials are under way at a time, each brought one task further by the engine, until all of
them can be judged after that task. A trial is an ordinary run per seed, in a folder named after its
settings. Its records have accuracies on test images too, which nothing here reads.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from ness_cli.errors import DamagedError, SettingsError, StoppedError
from ness_cli.run_state import RECORDS, command
from ness_cli.settings.resolve import resolve
from ness_cli.settings.study import RangeSettings, SearchSettings, Variant
from ness_cli.settings.validate import refusal
from ness_cli.settings.yaml_files import typed
from ness_cli.study.engines.base import INTERRUPTED, Engine, Job
from ness_cli.study.folder import RunProgress
from ness_cli.study.plan import PlannedRun, StudyPlan
from ness_cli.study.search import Search, TrialResult
from ness_cli.words import counted
from ness_cli.workplace import Workplace

_VALIDATED = "evaluate.validation=true"


def refuse_bad_space(plan: StudyPlan, search: SearchSettings) -> None:
    """Refuse a space with values that cannot be used, each beside the first values of the others.

    Raises:
        SettingsError: With everything that is wrong.
    """
    values = {key: _ends(own) for key, own in search.space.items()}
    first = {key: own[0] for key, own in values.items()}
    problems = dict[str, None]()
    for key, own in values.items():
        for value in own:
            settings = [f"{k}={typed(v)}" for k, v in {**first, key: value}.items()]
            try:
                resolve(plan.study.base, [*plan.study.settings.settings, *settings])
            except SettingsError as error:
                problems[plan.study.located(f"search.space.{key}: {error.what}")] = None
    if problems:
        raise refusal(list(problems))


def _ends(values: list[JsonValue] | RangeSettings) -> list[JsonValue]:
    return values if isinstance(values, list) else [values.low, values.high]


def runs_of(plan: StudyPlan, trial: TrialResult) -> list[PlannedRun]:
    """Return the runs of a trial, one per seed, each up to the task that it is judged after."""
    search = plan.study.settings.search
    own = (*plan.study.settings.settings, *trial.settings, _VALIDATED)
    variant = Variant(trial.name, trial.name, own)
    until = None if search is None else search.tasks
    return [PlannedRun(variant, seed, until) for seed in plan.study.settings.seeds]


@dataclass
class Tuning:
    """A search on an engine.

    Attributes:
        plan: The study that has the search.
        search: Where trials are drawn and remembered.
        settings: What the search was asked for.
        engine: What runs the trials.
        workplace: Where progress goes, and the request to stop.
    """

    plan: StudyPlan
    search: Search
    settings: SearchSettings
    engine: Engine
    workplace: Workplace

    def run(self) -> bool:
        """Run trials until all are judged; the study is locked.

        Returns:
            Whether they are; not if an engine goes on by itself.

        Raises:
            StoppedError: If a stop was requested, or a trial was interrupted.
            DamagedError: If a trial has lost the accuracies that it is judged by.
            SystemRefusedError: If the records of a run may not be read now.
        """
        while under_way := self._under_way():
            before = {trial.number: self._num_done(trial) for trial in under_way}
            jobs = self._jobs(under_way)
            for job in jobs:
                job.exit_code.unlink(missing_ok=True)
            has_ended = self.engine.run(jobs, lambda: None)
            self.workplace.stop.check("every trial has its checkpoint", "the same command")
            if not has_ended:
                return False
            for trial in under_way:
                self._judge(trial)
                if self._is_running(trial) and self._num_done(trial) == before[trial.number]:
                    self._end_stuck(trial)
        return True

    def jobs(self) -> list[Job]:
        """Return what would be run now; trials are drawn for it, but nothing is run."""
        return self._jobs(self._under_way())

    def runs(self, trial: TrialResult) -> list[PlannedRun]:
        """Return the runs of a trial, one per seed."""
        return runs_of(self.plan, trial)

    def _under_way(self) -> list[TrialResult]:
        """Return the trials to go on with: those of before and new ones, as many as have room."""
        for trial in self._running():
            self._judge(trial)
        room = self.engine.at_a_time() or 1
        while len(self._running()) < room and len(self.search.results()) < self.settings.trials:
            trial = self.search.draw()
            try:
                resolve(self.plan.study.base, self.runs(trial)[0].variant.settings)
            except SettingsError as error:
                self._fail(trial, error.what)
            else:
                self._judge(trial)  # the same settings may have been tried before
        return self._running()

    def _running(self) -> list[TrialResult]:
        return [trial for trial in self.search.results() if trial.state == "running"]

    def _is_running(self, trial: TrialResult) -> bool:
        return self.search.results()[trial.number].state == "running"

    def _jobs(self, trials: Sequence[TrialResult]) -> list[Job]:
        """Return what brings trials one task further; equal settings are run once."""
        found = {}
        for trial in trials:
            until = self._num_done(trial) + 1
            for run in self.runs(trial):
                if self._progress(run).tasks_done < until:
                    found[run.name] = self.plan.job(run, until)
        return list(found.values())

    def _num_done(self, trial: TrialResult) -> int:
        """Return after how many tasks all seeds of a trial are."""
        return min(self._progress(run).tasks_done for run in self.runs(trial))

    def _progress(self, run: PlannedRun) -> RunProgress:
        """Return how far a run is.

        Raises:
            SystemRefusedError: If its records may not be read now, which says nothing of a trial.
        """
        found = self.plan.progress(run)
        if found.refused is not None:
            self.plan.folder.exit_code(run.name).unlink(missing_ok=True)  # it may have met the same
            raise found.refused
        return found

    def _judge(self, trial: TrialResult) -> None:
        """Tell the search how far a trial has come, and whether it ends here."""
        progress = [self._progress(run) for run in self.runs(trial)]
        failed = [each.why for each in progress if each.status == "failed"]
        if failed:
            self._fail(trial, failed[0])
            return
        done = min(each.tasks_done for each in progress)
        for task in range(1, done + 1):
            if task not in trial.scores:
                self.search.report(trial.number, task, self._score(trial, task))
        if all(each.status == "done" for each in progress):
            score = self._score(trial, done)
            self.search.complete(trial.number, score)
            self._tell(trial, f"{score:.2f} after {counted(done, 'task')}")
        elif done and self.search.is_behind(trial.number):
            self.search.prune(trial.number)
            self._tell(
                trial, f"{self._score(trial, done):.2f} after {counted(done, 'task')}, given up"
            )

    def _score(self, trial: TrialResult, task: int) -> float:
        """Return the mean validation accuracy of a trial over the tasks seen, and its seeds.

        Raises:
            DamagedError: If a run has lost it since it was looked how far it is.
        """
        scores = []
        for run in self.runs(trial):
            score = self.plan.validation(run.name, task)
            if score is None:
                folder = self.plan.folder.run(run.name)
                raise DamagedError(
                    f"{folder.task(task).record(RECORDS['evaluate'])}: its validation accuracies"
                    " are gone",
                    f"run: {command(folder.path, 'evaluate', task)} --force",
                )
            scores.append(score)
        return statistics.fmean(scores)

    def _end_stuck(self, trial: TrialResult) -> None:
        """End a trial whose runs ended without an error and without a task more."""
        for run in self.runs(trial):
            if self.plan.folder.last_code(run.name) == INTERRUPTED:
                raise StoppedError(f"{run.name} was interrupted", "type the same command again")
        self._fail(trial, "its runs came no further")

    def _fail(self, trial: TrialResult, why: str) -> None:
        self.search.fail(trial.number, why)
        self._tell(trial, f"failed: {why}")

    def _tell(self, trial: TrialResult, what: str) -> None:
        number = f"trial {trial.number + 1} of {self.settings.trials}"
        self.workplace.progress.note(f"{number}: {' '.join(trial.settings)}: {what}")
