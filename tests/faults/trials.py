"""A command meets a fault, is typed again, and must leave the files of one that met none."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from faults.contents import broken_promises, state_of, without_chance, without_times
from faults.layer import CHANGES, FAULTS, Fault
from faults.power import put, states
from faults.scenes import Scene, World
from forked import Ended

POWER = "power loss"
TWICE = "kill -9, and again"
_KILLS = ("kill -9", "killed in a write")

Call = tuple[str, str]
"""Kind and path of a call."""


@dataclass
class Tally:
    """What became of faults, by their kind and by scene.

    Attributes:
        tried: Faults that struck.
        survived: Those after which the same files were there.
        unnoticed: Those at which a command ended with 0, as if nothing had been.
        losses: A line for each of the others.
        missed: A line for each that never struck; not counted as tried.
    """

    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    survived: Counter[tuple[str, str]] = field(default_factory=Counter)
    unnoticed: Counter[tuple[str, str]] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def add(self, kind: str, scene: Scene, where: str, problem: str) -> None:
        """Count a fault and what was wrong after it; empty if nothing was."""
        self.tried[kind, scene.name] += 1
        self.survived[kind, scene.name] += not problem
        if problem:
            self.losses.append(f"{scene.name}, {kind}, {where}: {problem}")
            print(self.losses[-1], file=sys.stderr, flush=True)

    def miss(self, kind: str, scene: Scene, number: int) -> None:
        """Note a fault that was to strike and did not: the command made fewer calls this time."""
        self.missed.append(f"{scene.name}, {kind}, call {number}")
        print(f"missed: {self.missed[-1]}", file=sys.stderr, flush=True)


class Trials:
    """Tries faults on the commands of a world.

    Args:
        world: The world.
        scratch: A folder for notes, outside of it.
        writer: How commands write files, a key of ``faults.broken.WRITERS``; empty: as they do.
    """

    def __init__(self, world: World, scratch: Path, writer: str = "") -> None:
        self.world, self._scratch, self._writer = world, scratch, writer
        self._crash = scratch / "crash"
        self.tally = Tally()
        self._calls: dict[str, list[Call]] = {}
        self._known: dict[tuple[str, str], str] = {}
        self._words: dict[str, str | None] = {}

    def calls(self, scene: Scene) -> list[Call]:
        """Return kind and path of every call that a command makes undisturbed."""
        if scene.name not in self._calls:
            self.world.play(scene)
            self.world.begin(scene)
            before = _stamps(self.world.here)
            trace = self._scratch / "trace.json"
            ended = self._type(scene, trace=str(trace))
            assert ended.code == 0, ended.err
            others = self.world.others(scene)
            assert not others, f"{scene.name} differs from time to time: {', '.join(others)}"
            words = without_times(ended.out)
            self._words[scene.name] = words if words == self.world.printed(scene) else None
            self._calls[scene.name] = [(kind, path) for kind, path in json.loads(trace.read_text())]
            unseen = list(self._unseen(scene, before))
            assert not unseen, f"{scene.name} writes past the layer: {', '.join(unseen)}"
        return self._calls[scene.name]

    def _unseen(self, scene: Scene, before: dict[str, tuple[int, ...]]) -> Iterator[str]:
        """Yield files that were made or changed by a call that was not counted.

        A folder that was put into place as a whole brings its files with it.
        """
        calls = self._calls[scene.name]
        seen = {path for kind, path in calls if kind in CHANGES and kind != "mkdir"}
        moved = [path + os.sep for kind, path in calls if kind == "rename"]
        brought = [*self.world.placed(scene.brings)]
        for path, stamp in _stamps(self.world.here).items():
            is_seen = path in seen or any(path.startswith(each) for each in moved)
            is_brought = any(path.startswith(each) for each in brought)
            if stamp != before.get(path) and not is_seen and not is_brought:
                yield path

    def points(self, scene: Scene, what: str) -> list[int]:
        """Return the numbers of the calls of a command that a kind of fault can strike."""
        wanted = FAULTS[what].calls
        return [n for n, (kind, _) in enumerate(self.calls(scene), 1) if kind in wanted]

    def strike(self, scene: Scene, what: str, number: int) -> None:
        """Have one call of a command go wrong, and count what comes of it."""
        self.world.begin(scene)
        ended, struck = self._struck(scene, what, number)
        if struck is None:
            self.tally.miss(what, scene, number)
            return
        problem = self._problem_at_once(scene, what, ended) or self.problem_after(scene)
        self.tally.unnoticed[what, scene.name] += ended.code == 0
        self.tally.add(what, scene, self._where(number, struck), problem)

    def strike_twice(self, scene: Scene, rng: random.Random) -> None:
        """Kill a command, and the one that is typed after it, and count what comes of it."""
        points = self.points(scene, "kill -9")
        if not points:
            return  # it changes nothing
        first = rng.choice(points)
        self.world.begin(scene)
        _, struck = self._struck(scene, "kill -9", first)
        if struck is None or scene.done(self.world.here):
            self.tally.miss(TWICE, scene, first)
            return
        before = self._scratch / "before"
        shutil.rmtree(before, ignore_errors=True)
        shutil.copytree(self.world.here, before)
        trace = self._scratch / "trace.json"
        ended = self._type(scene, trace=str(trace))
        if ended.code != 0:
            problem = f"typed again it ends with {ended.code}: {ended.err.strip()[-300:]}"
            self.tally.add(TWICE, scene, self._where(first, struck), problem)
            return
        kinds = [kind for kind, _ in json.loads(trace.read_text())]
        changes = [n for n, kind in enumerate(kinds, 1) if kind in CHANGES]
        if not changes:
            self.tally.miss(TWICE, scene, first)  # what was left to do changes nothing
            return
        second = rng.choice(changes)
        self.world.clear()
        shutil.copytree(before, self.world.here)
        _, again = self._struck(scene, "kill -9", second)
        if again is None:
            self.tally.miss(TWICE, scene, second)
            return
        where = f"{self._where(first, struck)}, then {self._where(second, again)}"
        self.tally.add(TWICE, scene, where, self.problem_after(scene))

    def disks(self, scene: Scene) -> list[dict]:
        """Return every disk that a power loss may leave while a command runs, and at its end."""
        self.calls(scene)
        self.world.begin(scene)
        shutil.rmtree(self._crash, ignore_errors=True)
        ended = self._type(scene, crash=str(self._crash), brought=self.world.placed(scene.brings))
        assert ended.code == 0, ended.err
        return list(states(self._crash))

    def lose_power(self, scene: Scene, disk: dict) -> None:
        """Begin with one of the latest ``disks``, and count what comes of it."""
        self.world.clear()
        put(disk, self._crash)
        where = f"before call {disk['number']}, {disk['kind']} {self._short(disk['path'])}"
        problem = ""
        # What was removed may be there again, until the command is typed again.
        others = self.world.others(scene, may_have_more=True) if disk["kind"] == "end" else []
        if others:
            problem = f"what the command said to have done is gone: {', '.join(others)}"
        problem = problem or self.problem_after(scene)
        self.tally.add(f"{POWER} ({disk['mode']})", scene, where, problem)

    def _struck(self, scene: Scene, what: str, number: int) -> tuple[Ended, Call | None]:
        """Type a command that a fault strikes; return how it ended, and the call if one was."""
        mark = self._scratch / "mark.json"
        mark.unlink(missing_ok=True)
        ended = self._type(scene, number=number, what=what, mark=str(mark))
        return ended, tuple(json.loads(mark.read_text())) if mark.exists() else None

    def _problem_at_once(self, scene: Scene, what: str, ended: Ended) -> str:
        """Return what is wrong with the way in which a command met a fault."""
        said = ended.err.strip()[-300:]
        if ended.code not in (*FAULTS[what].codes, *scene.codes):
            return f"exit code {ended.code}: {said}"
        if "Traceback" in ended.err:
            return f"a traceback: {said}"
        if ended.code in (1, 8) and "fix: " not in ended.err + ended.out:
            return f"no remedy: {said}"
        if ended.code == 0 and (others := self.world.others(scene)):
            return f"exit code 0, and these are not what they should be: {', '.join(others)}"
        words = self._words[scene.name]
        if ended.code == 0 and words is not None and without_times(ended.out) != words:
            return f"exit code 0, and it printed something else: {ended.out.strip()[-300:]}"
        return ""

    def problem_after(self, scene: Scene) -> str:
        """Return what is wrong after a fault, once the command was typed again.

        From the same files it ends in the same way: that is looked up where it is known.
        """
        key = scene.name, state_of(self.world.here)
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
            ended = self.world.type(scene)
            if ended.code != 0:
                return f"typed again it ends with {ended.code}: {ended.err.strip()[-300:]}"
        if others := self.world.others(scene):
            return f"other content: {', '.join(others)}"
        left = [] if scene.name in _READERS else sorted(map(str, here.rglob(".*.tmp")))
        left = [name for name in left if ".exit." not in name]  # of a job, a few bytes
        left = [name for name in left if not any(own in name for own in scene.leaves)]
        return f"left behind: {', '.join(left)}" if left else ""

    def _where(self, number: int, call: Call) -> str:
        return f"call {number}, {call[0]} {self._short(call[1])}"

    def _short(self, path: str) -> str:
        return without_chance(path.removeprefix(str(self.world.here)))

    def _type(self, scene: Scene, **fault: object) -> Ended:
        made = asdict(Fault((str(self.world.here),), writer=self._writer, **fault))
        return self.world.type(scene, before=("faults.layer", "install", made))


# They hold no folder as their own, and remove nothing from it.
_READERS = ("report", "inspect", "status", "verify", "predict", "presets cp", "study table")


def _stamps(here: Path) -> dict[str, tuple[int, ...]]:
    """Return for every file what changes when it is made, written or replaced."""
    found = {str(path): path.stat() for path in here.rglob("*") if path.is_file()}
    return {path: (s.st_ino, s.st_mtime_ns, s.st_size) for path, s in found.items()}
