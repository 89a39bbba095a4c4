"""What ``ness study run``, ``status`` and ``stop`` do."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ness_cli.cli.session import Session
from ness_cli.cli.targets import parse_seeds
from ness_cli.errors import InputError, NessError, SettingsError, SystemRefusedError
from ness_cli.process_identity import this_process
from ness_cli.results.table import plain_table, titled
from ness_cli.settings.study_files import read_study
from ness_cli.stages.report import report_format, save_pictures
from ness_cli.stages.report import save as save_report
from ness_cli.study.choice import Trials
from ness_cli.study.conduct import Conduct, make_engine, refuse_other_settings
from ness_cli.study.folder import StudyFolder, study_folder
from ness_cli.study.measure import measure
from ness_cli.study.plan import StudyPlan
from ness_cli.study.shared_start import refuse_unshared
from ness_cli.study.states import States
from ness_cli.study.table import found_report, study_report
from ness_cli.study.timings import Timings
from ness_cli.study.tune import runs_of
from ness_cli.words import counted

NOTHING_LEFT = "# nothing is left to run\n"
_POLL_SECONDS = 0.5


class RunsFailedError(NessError):
    """Runs of a study have failed; the others are through."""

    kind = "runs-failed"
    exit_code = 9


@dataclass(frozen=True)
class Request:
    """What was typed after ``ness study run``.

    Attributes:
        file: File of the study.
        overrides: ``key=value`` strings: settings of every run, and ``engines.*``.
        base: Another preset to start from.
        seeds: Other seeds, as in ``1,2,3``.
        out: Folder of the study.
        rows: The rows that are wanted, separated by commas.
        jobs: Runs at a time.
        engine: Name of the engine.
    """

    file: Path
    overrides: Sequence[str] = ()
    base: str | None = None
    seeds: str | None = None
    out: Path | None = None
    rows: Sequence[str] = ()
    jobs: int | None = None
    engine: str = "local"

    def plan(self, workplace: Session) -> StudyPlan:
        """Return the plan; errors as in ``read_study``, with those of all rows."""
        jobs = [] if self.jobs is None else [f"engines.{self.engine}.jobs={self.jobs}"]
        study = read_study(
            self.file,
            [*self.overrides, *jobs],
            base=self.base,
            seeds=None if self.seeds is None else list(parse_seeds(self.seeds)),
            threads=workplace.threads,
        )
        folder = StudyFolder(self.out or Path("runs") / self.file.stem)
        plan = StudyPlan(study, folder, workplace.device, tuple(self.rows))
        _ = plan.resolved  # refuses what is wrong in any row, before the first run starts
        refuse_unshared(plan)
        return plan


def run_study(request: Request, workplace: Session, *, only_failed: bool) -> None:
    """Run what is left of a study, and show how every run ended.

    Raises:
        RunsFailedError: If runs failed.
        StoppedError: If a stop was requested.
    """
    plan, console = request.plan(workplace), workplace.console
    if not plan.wanted_rows:
        raise SettingsError(f"{request.file}: has no rows", "ness tune runs what it searches")
    engine = make_engine(request.engine, plan, workplace)
    with plan.folder.lock(console.note):
        refuse_other_settings(plan)
        how = {"engine": request.engine, "device": workplace.device}
        plan.folder.remember(plan.study, plan.wanted_rows if plan.rows else (), **how)
        console.note(f"{plan.folder.path}: {States.of(plan).summary()}")
        has_ended = Conduct(plan, engine, workplace, only_failed).run()
    states = States.of(plan)
    if not has_ended:
        left = [plan.job(run) for run, own in states.runs.items() if own.status != "done"]
        states = replace(states, engine=engine.status(left))
    console.result(states.table())
    out = shlex.quote(str(plan.folder.path))
    console.document(_document("ness.study-run/1", states))
    if states.failed and has_ended:
        raise RunsFailedError(
            f"{counted(len(states.failed), 'run')} failed: {states.summary()}",
            f"the logs say why; then: ness study run {_going_on(plan, how)} --only-failed",
        )
    console.next(f"ness study {'table' if has_ended else 'status'} {out}")


def dry_run(request: Request, workplace: Session) -> None:
    """Print what would be done now, in the words of the engine; nothing is written."""
    plan = request.plan(workplace)
    refuse_other_settings(plan)
    engine = make_engine(request.engine, plan, workplace)
    ready = Conduct(plan, engine, workplace).ready()
    forks = [fork.command(plan) for fork in ready.forks]
    jobs = list(ready.jobs.values())
    text = engine.dry_run(jobs) if jobs else NOTHING_LEFT
    workplace.console.plain("".join(f"{line}\n" for line in forks) + text)


def show_status(path: Path, workplace: Session) -> None:
    """Show how far every run of a study is.

    Raises:
        SystemRefusedError: After all that is known, if the system let records of a run not be read.
    """
    plan, how = remembered_plan(path)
    engine = make_engine(how["engine"], plan, workplace)
    states = States.of(plan)
    left = [plan.job(run) for run, progress in states.runs.items() if progress.status != "done"]
    states = replace(states, engine=engine.status(left) if left else {})
    found, trials = _document("ness.study-status/1", states), Trials.of(plan)
    if trials is not None:
        workplace.console.result(trials.table())
        found["search"] = trials.document()
    if trials is None or states.runs:
        workplace.console.result(states.table())
    workplace.console.document(found)
    for progress in states.runs.values():
        if progress.refused is not None:
            raise progress.refused
    if trials is not None and not states.runs:
        if trials.num_left and plan.folder.holder() is None:
            workplace.console.next(f"ness tune {_going_on(plan, how)}")
    elif not left:
        workplace.console.next(f"ness study table {shlex.quote(str(path))}")
    elif not states.is_under_way and plan.folder.holder() is None:
        workplace.console.next(f"ness study run {_going_on(plan, how)}")


def _going_on(plan: StudyPlan, how: Mapping[str, Any]) -> str:
    """Return what is typed to go on with a study from its folder, with all that was typed first."""
    file, out = (shlex.quote(str(path)) for path in (plan.folder.settings, plan.folder.path))
    rows = "".join(f" --rows {shlex.quote(row)}" for row in plan.rows)
    return f"{file} --out {out} --on {how['engine']} --device {how['device']}{rows}"


def stop_study(path: Path, workplace: Session) -> None:
    """Ask what runs a study to stop, and wait until it has.

    Raises:
        SystemRefusedError: If it runs on another machine.
    """
    plan, how = remembered_plan(path)
    trials = Trials.of(plan)
    tried = [] if trials is None else trials.results
    runs = [run for trial in tried if trial.state == "running" for run in runs_of(plan, trial)]
    make_engine(how["engine"], plan, workplace).stop(
        [plan.job(run) for run in [*plan.runs(), *runs] if plan.progress(run).status != "done"]
    )
    holder = plan.folder.holder()
    if holder:
        if holder.machine != this_process().machine:
            raise SystemRefusedError(f"{path} is being run by {holder}", "type this command there")
        workplace.console.note(f"{path}: asking {holder} to stop")
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(holder.pid, signal.SIGTERM)
    while plan.folder.holder():
        time.sleep(_POLL_SECONDS)
        workplace.stop.check("it was asked to stop", "the same command")
    states = States.of(plan)
    workplace.console.note(f"{path}: {states.summary()}")
    workplace.console.document(_document("ness.study-stop/1", states))


def plan_study(
    request: Request, workplace: Session, *, like: Sequence[Path], measured: bool
) -> None:
    """Show what a study will take; nothing is written but what measuring prepares.

    Args:
        request: What was typed.
        workplace: Where to show it.
        like: Folders with runs by whose times those of the study are estimated, beside its own.
        measured: Measure what is not known from these.
    """
    from ness_cli.study.forecast import forecast  # torch

    # A run starts with the same imports, and to end takes it as long again.
    timings = Timings(command=2 * time.process_time())
    plan = request.plan(workplace)
    engine = make_engine(request.engine, plan, workplace)
    timings.add([plan.folder.path, *like], plan.study.settings.threads)
    if measured:
        measure(plan, timings, workplace)
    found = forecast(plan, engine, timings)
    workplace.console.result(found.table())
    workplace.console.document(found.document())


def list_studies(folder: Path, workplace: Session) -> None:
    """Show the studies right in a folder, or below it at any depth, and how far they are.

    What cannot be read keeps no other from being listed.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: there is no such folder",
            "name one with studies in it, as in: ness study ls runs",
        )
    table, documents = plain_table("study", "base", "runs", "done", "failed", left=2), []
    for record in sorted(folder.glob("**/study.json")):
        own: dict[str, Any] = {"folder": str(record.parent)}
        try:
            plan, _ = remembered_plan(record.parent)
            states, trials = States.of(plan), Trials.of(plan)
        except NessError as error:
            documents.append({**own, "problem": error.what})
            workplace.console.note(f"{record.parent} is left out: {error.what}; {error.remedy}")
            continue
        base, counts = plan.study.settings.base, Counter(states.counts)
        counts.update({} if trials is None else trials.counts)
        documents.append({**own, "base": base, "counts": dict(counts)})
        shown = (counts.total(), counts["done"], counts["failed"])
        table.add_row(str(record.parent), Path(base).stem, *map(str, shown))
    workplace.console.result(titled("", table) if documents else f"{folder}: no study in it")
    workplace.console.document({"schema": "ness.studies/1", "studies": documents})


@dataclass(frozen=True)
class Wanted:
    """What of a study is tabulated: all where nothing is named."""

    rows: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()


def show_table(
    path: Path, wanted: Wanted, workplace: Session, *, format_name: str, save: Path | None
) -> None:
    """Show the table of a study in a format, and write it in all that are files.

    Args:
        path: The folder of a study, or one with runs in ``ROW/seed-N``.
        wanted: Which runs.
        workplace: Where to show it.
        format_name: Format of what is shown.
        save: Where to write it, with pictures; into the folder itself, without, if ``None``.
    """
    chosen, console = report_format(format_name), workplace.console
    if os.path.lexists(StudyFolder(path).record):
        plan = remembered_plan(path)[0]
        plan = replace(plan, rows=wanted.rows or plan.rows)
        found = study_report(plan, wanted.seeds)
    else:
        found = found_report(path, wanted.rows, wanted.seeds)
    written = save_report(found, save or path, "table")
    written += save_pictures(found, save, console) if save is not None else []
    for each in written:
        console.note(f"written: {each}")
    if format_name == "text":
        console.result(found)
    elif format_name == "json":
        console.document(found.document())
    else:
        console.plain(chosen.render(found))


def remembered_plan(path: Path) -> tuple[StudyPlan, dict[str, Any]]:
    """Return the plan of a study from its folder, and how it is run.

    Raises:
        InputError: If the folder is not that of a study.
    """
    folder = study_folder(path)
    study, how = folder.remembered()
    rows = [row for row in how.get("rows", ()) if row in study.settings.combinations]
    return StudyPlan(study, folder, how["device"], tuple(rows)), how


def _document(schema: str, states: States) -> dict[str, Any]:
    return {
        "schema": schema,
        "folder": str(states.plan.folder.path),
        "counts": states.counts,
        "runs": states.document(),
    }
