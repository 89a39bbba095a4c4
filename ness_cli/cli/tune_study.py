"""What ``ness tune`` does."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from ness_cli.cli.run_study import NOTHING_LEFT, Request
from ness_cli.cli.session import Session
from ness_cli.errors import InputError, SettingsError
from ness_cli.results.summary import Spread
from ness_cli.settings.study import SearchSettings
from ness_cli.study.choice import Trials, tested_choice, write_choice
from ness_cli.study.conduct import make_engine
from ness_cli.study.plan import StudyPlan
from ness_cli.study.search import JOURNAL, Search, best_of
from ness_cli.study.tune import Tuning, refuse_bad_space

_ELSEWHERE = ("sky",)  # engines that write nothing where this process could read it


def tune(request: Request, workplace: Session, *, trials: int | None, tested: bool) -> None:
    """Search for settings, show the trials, and write the preset that was chosen.

    Args:
        request: What was typed.
        workplace: Where to work and to report.
        trials: How many are tried; those of the study if ``None``.
        tested: Measure the choice on test images, once all trials are judged.

    Raises:
        SettingsError: If the study has no search, or its space cannot be used.
        InputError: If no trial could be judged.
        StoppedError: If a stop was requested.
    """
    plan, settings = _searched(request, workplace, trials)
    console, engine = workplace.console, make_engine(request.engine, plan, workplace)
    with plan.folder.lock(console.note):
        plan.folder.refuse_what_is_no_file()  # before the journal gets a line
        search = Search(plan.folder.path, settings)
        plan.folder.remember(plan.study, engine=request.engine, device=workplace.device)
        tuning = Tuning(plan, search, settings, engine, workplace)
        has_ended = tuning.run()
        shown = Trials(plan, search.results(), settings.trials)
        best = best_of(shown.results)
        console.result(shown.table())
        found = shown.document()
        if has_ended and best is None:
            raise InputError(
                f"{plan.folder.path}: no trial could be judged",
                f"see the logs in {plan.folder.path}",
            )
        if has_ended and best is not None:
            preset = write_choice(shown, best)
            if tested:
                runs = [replace(run, until=None) for run in tuning.runs(best)]
                found["test"] = own = tested_choice(plan, engine, runs)
                acc, bwt = (Spread(own[m]["mean"], own[m]["std"]) for m in ("acc", "bwt"))
                console.result(
                    f"Test images, of the choice only, choice number {own['looks']} of this search"
                    f" that was tested: ACC {acc}, BWT {bwt}"
                )
            console.next(f"ness run --preset {shlex.quote(str(preset))}")
    console.document(found)


def dry_run(request: Request, workplace: Session, *, trials: int | None) -> None:
    """Print what would be run now, in the words of the engine; nothing is written.

    Raises:
        SettingsError: As ``tune``.
    """
    plan, settings = _searched(request, workplace, trials)
    engine, journal = make_engine(request.engine, plan, workplace), plan.folder.path / JOURNAL
    with TemporaryDirectory(prefix="ness-tune-") as folder:
        if journal.exists():
            shutil.copy(journal, folder)
        search = Search(Path(folder), settings)
        jobs = Tuning(plan, search, settings, engine, workplace).jobs()
    workplace.console.plain(engine.dry_run(jobs) if jobs else NOTHING_LEFT)


def _searched(
    request: Request, workplace: Session, trials: int | None
) -> tuple[StudyPlan, SearchSettings]:
    """Return a study and its search, both with the number of trials that is asked for.

    Raises:
        SettingsError: If there is no search, its space cannot be used, or its engine leaves the
            runs where they cannot be judged.
    """
    plan = request.plan(workplace)
    settings = plan.study.settings.search
    if settings is None:
        raise SettingsError(
            f"{request.file}: has no search", "add 'search: {space: {KEY: [VALUE, ...]}}'"
        )
    if request.engine in _ELSEWHERE:
        raise SettingsError(
            f"--on {request.engine}: its runs are in a bucket, and trials are judged here after"
            " every task",
            "take --on local, slurm or ray",
        )
    if trials is not None:
        settings = settings.model_copy(update={"trials": trials})
    refuse_bad_space(plan, settings)
    searched = plan.study.settings.model_copy(update={"search": settings})
    return replace(plan, study=replace(plan.study, settings=searched)), settings
