"""How far a run is: the table and the document of ``ness status``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli.extensions import Extension, forked_words, read_extensions
from ness_cli.results.forgetting_meter import ForgettingMeter
from ness_cli.results.forgetting_meter_tables import meter_line, percent_of
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.results.task_facts import TaskFacts, read_tasks
from ness_cli.run_dir import RunDir
from ness_cli.run_state import COMMANDS, STEPS, RunState, read_run_record, read_state

_NAME_WIDTH = 30


@dataclass(frozen=True)
class RunStatus:
    """Steps of a run, its tasks, what was appended, and how far updates moved earlier outputs."""

    state: RunState
    extensions: tuple[Extension, ...]
    forked: tuple[str, ...]
    tasks: tuple[TaskFacts, ...]
    meter: ForgettingMeter

    def table(self) -> Table:
        """Return a row per task, and below why steps are stale."""
        names = ["name"] * any(facts.words for facts in self.tasks)
        rhos = {update.task: percent_of(update.largest[1]) for update in self.meter.updates}
        columns = ["task", *names, *(COMMANDS[step] for step in STEPS)]
        table = plain_table(*columns, *["rho, %"] * bool(rhos), left=len(columns))
        notes = [meter_line(self.meter)]
        for facts in self.tasks:
            task = facts.number
            steps = [self.state.of(task, step) for step in STEPS]
            cells = [rhos.get(task, "")] * bool(rhos)
            labels = [facts.label(_NAME_WIDTH) for _ in names]
            table.add_row(str(task), *labels, *(s.status for s in steps), *cells)
            notes += [f"task {task}, {COMMANDS[s.step]}: stale, {s.why}" for s in steps if s.why]
        notes += [*self.forked, *(each.words() for each in self.extensions)]
        return titled(str(self.state.run.path), table, *notes)

    def document(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "run": str(self.state.run.path),
            "num_tasks": self.state.num_tasks,
            "steps": [
                {"task": s.task, "step": COMMANDS[s.step], "status": s.status, "why": s.why}
                for s in self.state.steps
            ],
            "forgetting_meter": self.meter.document(),
            "extensions": [each.document() for each in self.extensions],
            "complete": self.state.next() is None,
            "next": self.state.next_command(),
        }


def read_status(path: Path) -> RunStatus:
    """Read how far the run in a folder is.

    Raises:
        InputError: If the folder is not a run.
        DamagedError: If a record does not read back.
    """
    run = RunDir(path)
    state = read_state(run)
    record = read_run_record(run)
    meter = ForgettingMeter.of(state, record["identity"])
    tasks = tuple(read_tasks(run, state.num_tasks))
    return RunStatus(state, read_extensions(record), forked_words(record), tasks, meter)
