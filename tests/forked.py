"""Commands in real processes, forked off one that has loaded torch already: no start-up to pay.

A process may be struck by a signal at a moment that does not depend on the speed of the machine:
just before it touches files of its run for the n-th time.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

# A process that hangs ends with SIGALRM; no machine is that slow.
_SECONDS = 900
# What a command imports only when it runs; torch's optimisers import its compiler.
_IMPORTED_LATE = (
    "ness_cli.cli.run_targets",
    "ness_cli.cli.single_step",
    "ness_cli.methods.ness",
    "ness_cli.nets.backbones.mlp",
    "sklearn.datasets",
    "torch._dynamo",
)
_TOUCHES = ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate")


@dataclass(frozen=True)
class Moment:
    """Just before a process touches a file for the n-th time.

    Attributes:
        folder: Only files in here count.
        count: n, from 1.
        suffix: Only files whose name ends so count.
        touch: Only touches of this kind count, as Python's audit events call them.
        signal: What strikes the process then.
    """

    folder: str
    count: int
    suffix: str = ""
    touch: str = ""
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Ended:
    """A process that has ended, or was struck by SIGSTOP and waits.

    Attributes:
        pid: Its number.
        code: Exit code, negative for the signal that ended or stopped it.
        out: What it wrote to stdout.
        err: What it wrote to stderr.
    """

    pid: int
    code: int
    out: str
    err: str


class Processes:
    """Starts commands; use it as a context.

    Args:
        imports: Modules that commands need besides, imported once for all of them.
    """

    def __init__(self, *imports: str) -> None:
        self._imports = imports

    def __enter__(self) -> Processes:
        command = [sys.executable, __file__, *self._imports]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def ness(
        self,
        *arguments: object,
        moment: Moment | None = None,
        before: tuple[str, str, dict] | None = None,
        is_heard: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run ``ness`` with these arguments in one process.

        Args:
            arguments: What is typed after ``ness``.
            moment: When a signal strikes.
            before: Module and function to call first, and its arguments; what it returns is called
                with nothing when the command has ended by itself.
            is_heard: False where the pipe that it writes to has no reader.
            environment: Variables that it has besides.
        """
        more = {"moment": moment and asdict(moment), "before": before, "is_heard": is_heard}
        more["environment"] = dict(environment or {})
        (ended,) = self._ask(arguments, **more)
        return ended

    def ness_divided(
        self,
        *arguments: object,
        moment: Moment | None = None,
        before: tuple[str, str, dict] | None = None,
    ) -> list[Ended]:
        """Run it in two processes that make a step together; a moment is one of the first."""
        more = {"moment": moment and asdict(moment), "before": before}
        return self._ask(arguments, **more, size=2, is_divided=True)

    def python(self, program: str, *arguments: object, size: int = 1) -> list[Ended]:
        """Run a Python program, in several processes at once if ``size`` says so."""
        return self._ask(arguments, program=program, size=size)

    def _ask(self, arguments: tuple[object, ...], **request: object) -> list[Ended]:
        request |= {
            "arguments": [str(argument) for argument in arguments],
            "cwd": os.getcwd(),
            "cache": os.environ["NESS_CACHE"],
        }
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return [Ended(**ended) for ended in json.loads(self._server.stdout.readline())]


# -- in the process that is forked ---------------------------------------------------------------


def _serve() -> None:
    for name in (*_IMPORTED_LATE, *sys.argv[1:]):
        importlib.import_module(name)
    gc.freeze()  # a search for garbage would copy all of it into every fork

    for line in sys.stdin:
        request = json.loads(line)
        size = request.get("size", 1)
        environments = _divided(size) if request.get("is_divided") else [{}] * size
        with tempfile.TemporaryDirectory() as folder:
            all_ended, own_end = os.pipe()
            pids = [
                _start(request, environment, Path(folder) / str(rank))
                for rank, environment in enumerate(environments)
            ]
            os.close(own_end)
            ended = [_wait(pid, Path(folder) / str(rank)) for rank, pid in enumerate(pids)]
            if request.get("before"):
                os.read(all_ended, 1)  # returns when those that they have forked have ended too
            os.close(all_ended)
        print(json.dumps(ended), flush=True)


def _divided(size: int) -> list[dict[str, str]]:
    """Return what ``torchrun`` tells each of several processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    shared["TORCHELASTIC_RUN_ID"] = "forked"
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def _start(request: dict, environment: dict[str, str], output: Path) -> int:
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = _run(request, environment, output)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid


def _run(request: dict, environment: dict[str, str], output: Path) -> int:
    for number, ending in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output.with_suffix(ending), os.O_WRONLY | os.O_CREAT), number)
        if not request.get("is_heard", True):
            reader, writer = os.pipe()
            os.close(reader)
            os.dup2(writer, number)
    signal.alarm(_SECONDS)
    os.chdir(request["cwd"])
    own = request.get("environment", {})
    os.environ.update(environment, **own, NESS_CACHE=request["cache"])
    tempfile.tempdir = None  # looked up anew, as a new process does
    sys.argv = ["ness", *request["arguments"]]
    if "program" in request:
        exec(request["program"], {"__name__": "__main__"})
        return 0
    if request["moment"] and environment.get("RANK", "0") == "0":
        _strike_at(Moment(**request["moment"]))
    from ness_cli.cli.app import main

    after = _call(*request["before"]) if request.get("before") else None
    try:
        main()
    except SystemExit as end:
        return end.code or 0
    finally:
        if after is not None:
            after()
    return 0


def _call(module: str, function: str, arguments: dict) -> Callable[[], None]:
    found: Callable[[], None] = getattr(importlib.import_module(module), function)(**arguments)
    return found


def _strike_at(moment: Moment) -> None:
    left = moment.count

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event not in _TOUCHES or (moment.touch and event != moment.touch):
            return
        paths = [str(a) for a in arguments if isinstance(a, (str, Path))]
        if any(p.startswith(moment.folder) and p.endswith(moment.suffix) for p in paths):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), moment.signal)

    sys.addaudithook(hook)


def _wait(pid: int, output: Path) -> dict[str, object]:
    _, status = os.waitpid(pid, os.WUNTRACED)
    is_stopped = os.WIFSTOPPED(status)
    code = -os.WSTOPSIG(status) if is_stopped else os.waitstatus_to_exitcode(status)
    texts = [output.with_suffix(e).read_text() for e in (".out", ".err")]
    return {"pid": pid, "code": code, "out": texts[0], "err": texts[1]}


if __name__ == "__main__":
    _serve()
    os._exit(0)  # nothing is left to do, and torch takes a second to take its leave
