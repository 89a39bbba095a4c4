"""Run a study: what is ready, on an engine, until nothing is left that can be run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ness_cli import registry
from ness_cli.errors import DamagedError, InputError
from ness_cli.run_state import read_run_record
from ness_cli.settings.engines.base import EngineOptions
from ness_cli.settings.identity import difference
from ness_cli.study.engines.base import ENGINES, INTERRUPTED, Engine, Job
from ness_cli.study.folder import RunProgress
from ness_cli.study.plan import PlannedRun, StudyPlan, is_begun
from ness_cli.study.shared_start import Fork, fork_of, is_trained, trunk_of
from ness_cli.words import counted
from ness_cli.workplace import Workplace

_OPTIONS = "ness_cli.settings.engines"
_MOST_NAMED = 5
_LOOKING_COSTS = 20  # times as long as it took is waited until the next look

Key = tuple[str, int | None]
"""A run and its last task for now: what was tried is not tried again."""


def make_engine(name: str, plan: StudyPlan, workplace: Workplace) -> Engine:
    """Return an engine by name, with the options that the study has for it.

    Raises:
        SettingsError: If there is no such engine.
    """
    kind: type[Engine] = registry.load_class(ENGINES, name, setting="--on")
    settings, key = plan.study.settings, name.replace("_", "-")
    model: type[EngineOptions] = registry.load_class(
        _OPTIONS, key, setting="--on", attribute="Options"
    )
    return kind(plan.folder.path, settings.engines.get(key) or model(), settings.threads, workplace)


@dataclass(frozen=True)
class Ready:
    """What can be done now.

    Attributes:
        jobs: Runs, by what marks them as tried: name and last task.
        forks: Runs to be made of the first tasks of others, before.
    """

    jobs: Mapping[Key, Job]
    forks: Sequence[Fork]


@dataclass
class Conduct:
    """Runs a study on an engine.

    Attributes:
        plan: What to run, and where.
        engine: What runs it.
        workplace: Where progress goes, and the request to stop.
        only_failed: Run only what has failed, or was interrupted, before.
    """

    plan: StudyPlan
    engine: Engine
    workplace: Workplace
    only_failed: bool = False
    _tried: set[Key] = field(default_factory=set, init=False)

    def run(self) -> bool:
        """Run everything that is left; the study is locked.

        Returns:
            Whether it has ended; not if an engine goes on with it by itself.

        Raises:
            StoppedError: If a stop was requested; every run has a checkpoint then.
        """
        wanted = self._wanted()
        while (ready := self.ready(wanted)).jobs:
            for fork in ready.forks:
                fork.make(self.plan, self.workplace)
            self._tried |= ready.jobs.keys()
            jobs = list(ready.jobs.values())
            for job in jobs:
                job.exit_code.unlink(missing_ok=True)
            with self._watching(ready.jobs) as watch:
                has_ended = self.engine.run(jobs, watch)
            self.workplace.stop.check("every run has its checkpoint", "the same command")
            if not has_ended:
                return False
        return True

    def _wanted(self) -> Callable[[PlannedRun], bool]:
        if not self.only_failed:
            return lambda _run: True
        folder = self.plan.folder
        tried = {
            run.name
            for run in self.plan.runs()
            if self.plan.progress(run).status == "failed"
            or folder.last_code(run.name) == INTERRUPTED  # as what had failed, and was tried again
        }
        return lambda run: run.name in tried

    def ready(self, wanted: Callable[[PlannedRun], bool] = lambda _run: True) -> Ready:
        """Return what can be done now and was not tried before."""
        known = self.plan.runs()
        left = [run for run in known if wanted(run) and self.plan.progress(run).status != "done"]
        after = self.plan.study.settings.fork_after
        waited_for, forks, runs = set[str](), [], []
        for run in left:
            trunk = trunk_of(self.plan, run, known)
            if trunk is not None and is_trained(self.plan, trunk):
                forks.append(fork_of(self.plan, run, trunk))
            elif trunk is not None and trunk in left and (trunk.name, after) not in self._tried:
                waited_for.add(trunk.name)
                continue
            runs.append(run)
        jobs = {}
        for run in runs:
            until = after if run.name in waited_for else run.until
            if (run.name, until) not in self._tried:
                jobs[run.name, until] = self.plan.job(run, until)
        return Ready(jobs, forks)

    @contextmanager
    def _watching(self, keys: Iterable[Key]) -> Iterator[Callable[[], None]]:
        """Show the progress of runs: the share of their tasks that is done, and how they end."""
        name, seen = (
            self.plan.study.path.stem,
            {key: self.plan.folder.progress(*key) for key in keys},
        )
        done = sum(map(_percent, seen.values()))
        with self.workplace.progress.track(name, 100 * len(seen), done) as advance:
            due = 0.0

            def watch() -> None:
                nonlocal due
                started = time.monotonic()
                if started < due:
                    return
                for key, before in seen.items():
                    if before.status not in ("done", "failed"):
                        seen[key] = now = self.plan.folder.progress(*key)
                        self._tell(key[0], now)
                        if _percent(now) > _percent(before):
                            advance(_percent(now) - _percent(before), key[0])
                # Looking costs reading: on hundreds of runs it is done less often.
                due = time.monotonic() + _LOOKING_COSTS * (time.monotonic() - started)

            yield watch
            due = 0.0
            watch()

    def _tell(self, name: str, now: RunProgress) -> None:
        if now.status == "done":
            self.workplace.progress.note(f"{name}: {counted(now.tasks_done, 'task')} done")
        elif now.status == "failed":
            self.workplace.progress.note(f"{name}: failed: {now.why}")


def _percent(progress: RunProgress) -> int:
    return 100 * progress.tasks_done // progress.num_tasks if progress.num_tasks else 0


def refuse_other_settings(plan: StudyPlan) -> None:
    """Refuse to go on with runs that were made with other settings than the study has now.

    Raises:
        InputError: Naming runs and settings.
    """
    problems = []
    for run in plan.runs():
        folder = plan.folder.run(run.name)
        if not is_begun(folder):
            continue
        settings = plan.resolved[run.variant.name].settings
        asked = json.loads(json.dumps({**settings.identity(), "seed": run.seed}))
        try:
            made: dict[str, Any] = read_run_record(folder)["identity"]
        except DamagedError:  # it fails by itself, and keeps no other from being run
            continue
        # Looking up what settings that came later would have been takes a moment.
        if made != asked and (lines := difference(made, asked)):
            problems.append(f"{run.name}: {'; '.join(lines)}")
    if problems:
        more = len(problems) - _MOST_NAMED
        lines = problems[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])
        listed = "".join(f"\n  {line}" for line in lines)
        raise InputError(
            f"{plan.folder.path}: runs that are there were made with other settings:{listed}",
            "give the row another name, choose another --out, or delete these folders",
        )
