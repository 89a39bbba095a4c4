"""How far a run is at this moment: what its files say, and the process that works on it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ness_cli.process_identity import ProcessIdentity
from ness_cli.results.number_formats import human_bytes, human_seconds
from ness_cli.results.read_run import RunResult, read_run
from ness_cli.run_dir import RunDir
from ness_cli.run_state import COMMANDS, STEPS
from ness_cli.words import counted, fixed

_BAR = 24  # columns


@dataclass(frozen=True)
class LiveStatus:
    """A run at a moment.

    Attributes:
        result: What it has to show.
        worker: The process that works on it, ``None`` if none does.
        progress: What a process wrote last of the step at hand; empty between steps. One that was
            killed leaves it behind.
        now: The moment, in seconds since 1970.
    """

    result: RunResult
    worker: ProcessIdentity | None
    progress: Mapping[str, Any]
    now: float

    @property
    def is_done(self) -> bool:
        """Whether all steps are done."""
        return self.result.state.next() is None

    @property
    def step_seconds(self) -> float | None:
        """Seconds that are left of the step at hand; ``None`` where nothing tells yet."""
        speed = self.progress.get("seconds_per_unit")
        if speed is None or self.worker is None:
            return None
        left: float = speed * (self.progress["total"] - self.progress["done"])
        return max(0.0, left - self._silence)

    @property
    def run_seconds(self) -> float | None:
        """Seconds that are left of the run, if tasks go on to take what they took."""
        following = self.result.state.next()
        if following is None or self.worker is None:
            return None
        usual = {step: self._usual(step) for step in STEPS}
        left = self.step_seconds
        own = usual[following.step] if left is None else left
        after = [usual[step] for step in STEPS[STEPS.index(following.step) + 1 :]]
        tasks_left = self.result.state.num_tasks - following.task
        parts = [own, *after, *[seconds for seconds in usual.values() for _ in range(tasks_left)]]
        # A step that was never made takes little beside training, which is known.
        return None if usual["train"] is None and tasks_left else sum(part or 0.0 for part in parts)

    @property
    def key(self) -> str:
        """What is news when it changes: a step, an accuracy, a process; not how far a step is."""
        return f"{self.headline} {self.progress.get('what')} {self._working()}"

    @property
    def details(self) -> list[str]:
        """The step at hand, what is left, and who works on it."""
        return [text for text in (*self._step(), self._rest(), self._working()) if text]

    @property
    def _silence(self) -> float:
        return max(0.0, self.now - float(self.progress.get("updated", self.now)))

    def _usual(self, step: str) -> float | None:
        """Return the seconds that a step took on average, or training will by its speed now."""
        records = [record for record in self.result.records(step) if record]
        known = [max(r.get("seconds", 0.0), r.get("train_seconds", 0.0)) for r in records]
        if known:
            return float(sum(known) / len(known))
        speed = self.progress.get("seconds_per_unit")
        is_training = step == "train" and str(self.progress.get("what", "")).endswith("training")
        return speed * self.progress["total"] if is_training and speed is not None else None

    @property
    def headline(self) -> str:
        """The run, how many of its tasks are done, and the accuracy so far."""
        result, matrix = self.result, self.result.task_incremental
        done = f"{result.num_done}/{counted(result.state.num_tasks, 'task')} done"
        found = [f"{result.path}: {result.method}", done]
        if matrix.acc is not None:
            found.append(f"ACC {fixed(matrix.acc)} %")
        if matrix.bwt is not None:
            found.append(f"BWT {fixed(matrix.bwt, signed=True)}")
        return ", ".join(found)

    def _step(self) -> list[str]:
        if not self.progress or self.worker is None:
            return []
        share = min(1.0, self.progress["done"] / max(1, self.progress["total"]))
        bar = "━" * round(share * _BAR) + "╌" * (_BAR - round(share * _BAR))
        info = f", {self.progress['info']}" if self.progress.get("info") else ""
        return [f"{self.progress['what']} {bar} {100 * share:.0f} %{info}"]

    def _rest(self) -> str:
        """Return what is left, and where it is computed."""
        if self.worker is None:
            return ""
        found = []
        if self.step_seconds is not None:
            found.append(f"{human_seconds(self.step_seconds)} left of this step")
        if self.run_seconds is not None:
            found.append(f"about {human_seconds(self.run_seconds)} of the run")
        if self.progress:
            found += [self.progress["device"], *self._memory()]
        return ", ".join(found)

    def _memory(self) -> list[str]:
        peak, total = self.progress.get("peak_memory_bytes"), self.progress.get("device_bytes")
        found = [] if peak is None else [f"{human_bytes(peak)} at most"]
        if total is not None:
            used = total - self.progress["device_free_bytes"]
            found.append(f"{human_bytes(used)} of {human_bytes(total)} in use on it")
        return found

    def _working(self) -> str:
        """Return who works on it, or that nobody does and what to type."""
        following = self.result.state.next()
        if following is None:
            return "done"
        if self.worker is not None:
            return str(self.worker)
        killed = _writer(self.progress)
        gone = "" if killed is None else f", {killed} has ended"
        waiting = f"{COMMANDS[following.step]} of task {following.task} is next"
        return f"no process works on it{gone}: {waiting}: {self.result.state.next_command()}"


def read_live(path: Path, now: float | None = None) -> LiveStatus:
    """Read how far a run is at this moment.

    Args:
        path: The run folder.
        now: The moment, in seconds since 1970; when ``None`` the clock's.

    Raises:
        InputError: If the folder is not a run.
        DamagedError: If a record does not read back.
    """
    run = RunDir(path)
    worker, progress = run.holder(), _progress(run)
    if worker is not None and _writer(progress) != worker:
        progress = {}
    return LiveStatus(read_run(path), worker, progress, time.time() if now is None else now)


def _progress(run: RunDir) -> dict[str, Any]:
    """Return what was written of the step at hand, empty where there is nothing good."""
    if not run.live.is_file():
        return {}
    try:
        found = json.loads(run.live.read_text(encoding="utf-8"))
        return {**found, "done": int(found["done"]), "total": int(found["total"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _writer(progress: Mapping[str, Any]) -> ProcessIdentity | None:
    """Return the process that wrote it."""
    try:
        return ProcessIdentity(**progress["process"])
    except (KeyError, TypeError):
        return None
