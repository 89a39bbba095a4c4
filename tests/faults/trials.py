"""A command meets a fault, is typed again, and must leave the bits of one that met none."""

from __future__ import annotations

import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from json import loads
from pathlib import Path

from faults.layer import FAULTS, Fault
from faults.power import put, states
from faults.scenes import Scene, World, broken_promises

POWER = "power loss"


@dataclass
class Tally:
    """What became of faults, by name.

    Attributes:
        tried: Faults that struck.
        survived: Those after which the same bits were there.
        losses: A line for each of the others.
    """

    tried: Counter[str] = field(default_factory=Counter)
    survived: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)

    def add(self, name: str, scene: Scene, where: str, problem: str) -> None:
        """Count a fault and what was wrong after it; empty if nothing was."""
        self.tried[name] += 1
        self.survived[name] += not problem
        if problem:
            self.losses.append(f"{scene.name}, {name}, {where}: {problem}")
            print(self.losses[-1], file=sys.stderr, flush=True)


class Trials:
    """Tries faults on the commands of a world."""

    def __init__(self, world: World, scratch: Path) -> None:
        self.world, self._scratch = world, scratch
        self.tally = Tally()
        self._calls: dict[str, list[tuple[str, str]]] = {}
        self._known: dict[tuple[str, str], str] = {}

    def calls(self, scene: Scene) -> list[tuple[str, str]]:
        """Return kind and path of every call that a command makes undisturbed."""
        if scene.name not in self._calls:
            self.world.expected(scene)
            self.world.begin(scene)
            trace = self._scratch / "trace.json"
            ended = self._type(scene.command, trace=str(trace))
            assert ended.code == 0, ended.err
            self._calls[scene.name] = [tuple(call) for call in loads(trace.read_text())]
        return self._calls[scene.name]

    def points(self, scene: Scene, what: str) -> list[int]:
        """Return the numbers of the calls of a command that a kind of fault can strike."""
        wanted = FAULTS[what].calls
        return [n for n, (kind, _) in enumerate(self.calls(scene), 1) if kind in wanted]

    def strike(self, scene: Scene, what: str, number: int) -> None:
        """Have one call of a command go wrong, and count what comes of it."""
        kind, path = self.calls(scene)[number - 1]
        self.world.begin(scene)
        ended = self._type(scene.command, number=number, what=what)
        where = f"call {number}, {kind} {path.removeprefix(str(self.world.here))}"
        problem = ""
        if ended.code not in FAULTS[what].codes and not (ended.code == 0 and what != "kill -9"):
            problem = f"exit code {ended.code}: {ended.err.strip()[-300:]}"
        elif "Traceback" in ended.err or (ended.code > 0 and "fix: " not in ended.err):
            problem = problem if ended.code in (75, 130) else f"no remedy: {ended.err[-300:]}"
        self.tally.add(what, scene, where, problem or self.problem_after(scene))

    def lose_power(self, scene: Scene, *, most: int, rng: random.Random) -> None:
        """Have the power fail at every call of a command, and count what comes of it.

        Args:
            scene: The command.
            most: How many of the disks that are possible are tried, drawn by chance; all if 0.
            rng: Draws them.
        """
        self.world.expected(scene)
        self.world.begin(scene)
        crash = self._scratch / "crash"
        shutil.rmtree(crash, ignore_errors=True)
        ended = self._type(scene.command, crash=str(crash))
        assert ended.code == 0, ended.err
        found = list(states(crash))
        if most and len(found) > most:
            found = rng.sample(found, most)
        for state in found:
            self.world.clear()
            put(state, crash)
            where = f"before call {state['number']}, {state['kind']} {state['path']}"
            problem = ""
            if state["kind"] == "end" and self.world.tensors() != self.world.expected(scene):
                problem = "what the command said to have done is gone"
            problem = problem or self.problem_after(scene)
            self.tally.add(f"{POWER} ({state['mode']})", scene, where, problem)

    def problem_after(self, scene: Scene) -> str:
        """Return what is wrong after a fault, once the command was typed again.

        From the same files it ends in the same way: that is looked up where it is known.
        """
        key = scene.name, self.world.state()
        if key not in self._known:
            self._known[key] = self._problem_after(scene)
        return self._known[key]

    def _problem_after(self, scene: Scene) -> str:
        here = self.world.here
        try:
            wrong = list(broken_promises(here))
        except Exception as error:
            return f"the run does not read back: {error}"
        if wrong:
            return "; ".join(wrong)
        if not scene.done(here):
            ended = self.world.type(scene.command)
            if ended.code != 0:
                return f"typed again it ends with {ended.code}: {ended.err.strip()[-300:]}"
        expected, found = self.world.expected(scene), self.world.tensors()
        others = sorted(p for p in expected.keys() | found if expected.get(p) != found.get(p))
        return f"other bits: {', '.join(others)}" if others else "".join(self._leftovers(scene))

    def _leftovers(self, scene: Scene) -> Iterator[str]:
        for path in self.world.here.glob("run/**/.*.tmp"):
            if scene.name not in ("report", "inspect", "status", "verify", "predict", "export"):
                yield f"left behind: {path.relative_to(self.world.here)}"

    def _type(self, command: tuple[str, ...], **fault: object):
        made = asdict(Fault((str(self.world.here),), **fault))
        return self.world.type(command, before=("faults.layer", "install", made))
