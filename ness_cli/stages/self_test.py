"""Ten seconds of the real thing on a device: training, a kill and what comes after, projection."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ness_cli.console import Advance, Progress
from ness_cli.errors import NessError, StoppedError
from ness_cli.results.findings import Finding
from ness_cli.results.read_run import read_run
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_state
from ness_cli.settings.resolve import resolve
from ness_cli.stages.context import RunContext
from ness_cli.stages.inspect import inspect
from ness_cli.stages.prepare import prepare
from ness_cli.stages.run import run_steps
from ness_cli.stages.verify import verify
from ness_cli.words import counted, fixed
from ness_cli.workplace import Workplace

SETTINGS = (
    "data.num_tasks=2",
    "data.limit_per_class=30",
    "train.epochs=6",
    "net.hidden=[32, 32]",
    "checkpoint.seconds=0",
)
"""Two permutations of the digits, a checkpoint after every step."""
_LEAST_ACC = 40.0  # percent; ten classes by chance are 10
_KILLED_AT = 7  # steps into task 2
_REPORT = "report it, with this output and the versions above"


class _KilledError(Exception):
    """Ends a process that is pretended to be killed."""


class _Killer(Progress):
    """Ends training at a step, without a word."""

    @contextmanager
    def track(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Follow a piece of work up to the step."""

        def advance(n: int = 1, info: str = "") -> None:
            nonlocal done
            done += n
            if description == "task 2/2: training" and done >= _KILLED_AT:
                raise _KilledError

        yield advance


def self_test(workplace: Workplace) -> Iterator[Finding]:
    """Train a run, and another one that is killed and resumed; yield what came of it.

    All of it happens in a folder that is removed, with a cache of its own.

    Args:
        workplace: Device and threads.

    Raises:
        StoppedError: If a stop was requested.
    """
    with tempfile.TemporaryDirectory(prefix="ness-doctor-") as temporary:
        place = Path(temporary)
        own = replace(_plain(workplace), cache=place / "cache")
        first, second = RunDir(place / "first"), RunDir(place / "second")
        for name, test in (
            ("training", lambda: _training(first, own)),
            ("kill and resume", lambda: _resuming(first, second, own)),
            ("projection", lambda: _projection(first, own)),
        ):
            found = _tried(f"self-test: {name}", test)
            yield found
            if found.status == "problem":
                return


def _plain(workplace: Workplace) -> Workplace:
    return Workplace(workplace.cache, workplace.device, workplace.threads, stop=workplace.stop)


def _tried(name: str, test: Callable[[], str]) -> Finding:
    """Return what a test found; a test raises what is wrong."""
    try:
        return Finding.good(name, test())
    except StoppedError:
        raise
    except NessError as error:
        return Finding.problem(name, error.what, error.remedy or _REPORT)
    except Exception as error:  # what goes wrong here is what the test is for
        return Finding.problem(name, f"{type(error).__name__}: {error}", _REPORT)


def _training(run: RunDir, workplace: Workplace) -> str:
    started = time.monotonic()
    _train(run, workplace)
    acc = read_run(run.path).task_incremental.acc
    if acc is None or not acc > _LEAST_ACC:
        raise NessError(f"two tasks of digits end at ACC {acc}, chance is 10 %")
    seconds = fixed(time.monotonic() - started, 1)
    return f"two tasks of digits, ACC {fixed(acc, 1)} % in {seconds} s"


def _resuming(first: RunDir, second: RunDir, workplace: Workplace) -> str:
    killed = replace(workplace, progress=_Killer())
    try:
        _train(second, killed)
    except _KilledError:
        pass
    else:
        raise NessError("the process that was to be killed went on")
    _train(second, workplace)
    mine, others = _hashes(first), _hashes(second)
    differing = [name for name in mine if mine[name] != others.get(name)]
    if differing or mine.keys() != others.keys():
        raise NessError(
            f"{counted(len(differing), 'file')} of {len(mine)} differ after a kill in task 2:"
            f" {', '.join(differing[:3])}",
            "results on this device cannot be repeated to the bit; on a CPU they can: --device cpu",
        )
    return f"killed in task 2 and resumed: {counted(len(mine), 'file')} with the same bits"


def _projection(run: RunDir, workplace: Workplace) -> str:
    context = RunContext(run, workplace)
    verified, found = verify(context), inspect(context, needs_images=True)
    if found.violations:
        raise NessError(found.violations[0])
    checks = sum(row["rows"] for row in found.updates)
    if not (checks and verified.updates):
        raise NessError("there was nothing to check")
    return f"task 2 is task 1 plus its update, to the bit; bound kept in {counted(checks, 'check')}"


def _train(run: RunDir, workplace: Workplace) -> None:
    with run.lock():
        prepare(run, resolve("digits", SETTINGS), workplace)
        run_steps(RunContext(run, workplace), until=None, on_step=lambda *_: None)


def _hashes(run: RunDir) -> Mapping[str, str]:
    """Return the hash of every tensor file of a run."""
    steps = read_state(run).steps
    return {name: sha for step in steps for name, sha in step.record.get("outputs", {}).items()}
