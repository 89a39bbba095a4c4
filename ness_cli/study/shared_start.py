"""Rows that share the training of first tasks: all but the first of a method are forks of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ness_cli.errors import NessError, SettingsError
from ness_cli.run_state import read_state
from ness_cli.settings.fork import trainings_before
from ness_cli.settings.identity import differing_keys
from ness_cli.settings.yaml_files import typed
from ness_cli.study.plan import PlannedRun, StudyPlan, is_begun
from ness_cli.workplace import Workplace

_OF_THE_RUN = "seed"


@dataclass(frozen=True)
class Fork:
    """A run that is made of the first tasks of another one.

    Attributes:
        run: The run to make.
        trunk: The run to share with.
        after: How many tasks they share.
        overrides: ``key=value`` strings: what differs.
    """

    run: PlannedRun
    trunk: PlannedRun
    after: int
    overrides: tuple[str, ...]

    def command(self, plan: StudyPlan) -> str:
        """Return the command that does the same, quoted for a shell."""
        trunk, out = (str(plan.folder.run(each.name).path) for each in (self.trunk, self.run))
        after = ("--after", str(self.after))
        return shlex.join(["ness", "fork", trunk, *after, "--out", out, *self.overrides])

    def make(self, plan: StudyPlan, workplace: Workplace) -> None:
        """Make it; where that is not possible the run is left to be trained by itself.

        The tensors are the same either way.
        """
        from ness_cli.stages.fork import fork  # torch, which a study without forks does without

        trunk, out = (plan.folder.run(each.name) for each in (self.trunk, self.run))
        try:
            with trunk.lock():
                fork(trunk, out, self.overrides, workplace, after=self.after)
        except NessError as error:
            workplace.progress.note(
                f"{self.run.name} shares no task of {self.trunk.name}: {error.what}"
            )


def trunk_of(plan: StudyPlan, run: PlannedRun, known: Sequence[PlannedRun]) -> PlannedRun | None:
    """Return the run whose first tasks a run shares; ``None`` if it is begun, or trains its own.

    Args:
        plan: The study.
        run: The run.
        known: All that are known, in their order.
    """
    if plan.study.settings.fork_after is None or is_begun(plan.folder.run(run.name)):
        return None
    method = _method(plan, run)
    first = next(r for r in known if r.seed == run.seed and _method(plan, r) == method)
    return None if first.name == run.name else first


def is_trained(plan: StudyPlan, trunk: PlannedRun) -> bool:
    """Return whether the tasks of a run that others share are trained."""
    folder, after = plan.folder.run(trunk.name), plan.study.settings.fork_after
    if after is None or not is_begun(folder):
        return False
    state = read_state(folder)
    return after <= state.num_tasks and state.of(after, "train").is_done


def fork_of(plan: StudyPlan, run: PlannedRun, trunk: PlannedRun) -> Fork:
    """Return the fork that makes a run of another one."""
    mine, other = (plan.resolved[each.variant.name].settings for each in (run, trunk))
    theirs = other.flat()
    changed = [
        f"{key}={typed(value)}"
        for key, value in mine.flat().items()
        if key != _OF_THE_RUN and theirs.get(key) != value
    ]
    return Fork(run, trunk, plan.study.settings.fork_after or 0, tuple(changed))


def refuse_unshared(plan: StudyPlan) -> None:
    """Refuse rows that cannot share the first tasks of the first row of their method.

    Raises:
        SettingsError: Naming the row and the settings that decide a training that is shared.
    """
    after = plan.study.settings.fork_after
    if after is None:
        return
    first: dict[str, str] = {}
    for variant in plan.study.variants(plan.wanted_rows):
        settings = plan.resolved[variant.name].settings
        trunk = first.setdefault(settings.method.name, variant.name)
        keys = differing_keys(plan.resolved[trunk].settings.identity(), settings.identity())
        early = [key for key in keys if trainings_before(key) < after]
        if early:
            decides = "decides" if len(early) == 1 else "decide"
            problem = f"{', '.join(early)} {decides} the training that it would share with {trunk}"
            raise SettingsError(
                plan.study.located(f"rows.{variant.row}: fork_after={after}: {problem}"),
                "leave that setting to all rows, or put the row into a study without fork_after",
            )


def _method(plan: StudyPlan, run: PlannedRun) -> str:
    return plan.resolved[run.variant.name].settings.method.name
