"""A rough measurement of how long runs will take, where no run of the same kind is known."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from ness_cli.study.engines.base import Job
from ness_cli.study.folder import StudyFolder
from ness_cli.study.plan import PlannedRun, StudyPlan
from ness_cli.study.processes import Processes
from ness_cli.study.timings import Timings, Work, kind
from ness_cli.workplace import Workplace

_ONE_EPOCH = ("train.epochs=1", "train.head_epochs=0")
_MOST_TASKS = 2  # the first has nothing to protect


def measure(plan: StudyPlan, timings: Timings, workplace: Workplace) -> None:
    """Add the times of kinds that are not known to timings.

    The first two tasks of one run of each kind are trained for one epoch here, consolidated and
    evaluated, in a temporary folder, one after another. Other epochs, and later tasks, count as
    these, so the estimate is rough. A run that fails leaves its kind unknown.

    Args:
        plan: The study.
        timings: What is known.
        workplace: Where notes go, and the request to stop.

    Raises:
        StoppedError: If a stop was requested.
    """
    unknown: dict[str, PlannedRun] = {}
    for run in plan.runs():
        identity = plan.resolved[run.variant.name].settings.identity()
        if timings.estimate(Work(identity, num_tasks=1)) is None:
            unknown.setdefault(kind(identity), run)
    with tempfile.TemporaryDirectory(prefix="ness-measure-") as folder:
        elsewhere = replace(plan, folder=StudyFolder(Path(folder)))
        for run in unknown.values():
            workplace.progress.note(f"{run.name}: measuring an epoch of its first tasks")
            identity = plan.resolved[run.variant.name].settings.identity()
            last = min(_MOST_TASKS, identity.get("data.num_tasks") or _MOST_TASKS)
            job = elsewhere.job(run, until=last)
            one = Job(job.name, (*job.command, *_ONE_EPOCH), job.run, job.log, job.exit_code)
            Processes([{}], workplace.stop).run([one])
            workplace.stop.check("nothing was written", "the same command")
            if elsewhere.progress(replace(run, until=last)).status != "done":
                workplace.progress.note(f"{run.name}: {elsewhere.folder.reason(run.name)}")
        timings.add([Path(folder)], plan.study.settings.threads)
