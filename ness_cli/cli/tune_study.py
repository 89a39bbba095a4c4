"""What ``ness tune`` does."""

from __future__ import annotations

import shlex
from dataclasses import replace

from ness_cli.cli.run_study import Request
from ness_cli.cli.session import Session
from ness_cli.errors import InputError, SettingsError
from ness_cli.results.summary import Spread
from ness_cli.study.choice import document, tested_choice, trials_table, write_choice
from ness_cli.study.conduct import make_engine
from ness_cli.study.search import Search, best_of
from ness_cli.study.tune import Tuning, refuse_bad_space


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
    plan, console = request.plan(workplace), workplace.console
    settings = plan.study.settings.search
    if settings is None:
        raise SettingsError(
            f"{request.file}: has no search", "add 'search: {space: {KEY: [VALUE, ...]}}'"
        )
    settings = settings if trials is None else settings.model_copy(update={"trials": trials})
    refuse_bad_space(plan, settings)
    engine = make_engine(request.engine, plan, workplace)
    with plan.folder.lock(console.note):
        search = Search(plan.folder.path, settings)
        plan.folder.remember(plan.study, engine=request.engine, device=workplace.device)
        tuning = Tuning(plan, search, settings, engine, workplace)
        has_ended = tuning.run()
        results = search.results()
        best = best_of(results)
        console.result(trials_table(plan, results, settings.trials))
        found = document(plan, results)
        if has_ended and best is None:
            raise InputError(
                f"{plan.folder.path}: no trial could be judged",
                f"see the logs in {plan.folder.path}",
            )
        if has_ended and best is not None:
            preset = write_choice(plan, best, results)
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
