"""``python -m faults.corruption``: damage every file of runs, and print what became of it."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from faults.damaged import SCENES, UNDECIDING, Scene, Words, World, twins
from faults.damages import Damage, clear, damages
from forked import Ended

from ness_cli.data.task_stream import FOLDER_LENGTH

_FOUND = (4, 5)
_ROUNDS = 8  # remedies that are followed one after another


@dataclass
class Tally:
    """What became of damages, by their class.

    Attributes:
        tried: Damages that were done.
        found: Those that every command which used the file found before, and named.
        ignored: Those that changed nothing, in files or bytes that decide nothing.
        restored: Those after which the remedy brought all tensors back.
        problems: A line for everything that was not as it should be.
    """

    tried: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    restored: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return a line for every class."""
        columns = (self.tried, self.found, self.ignored, self.restored)
        heads = ("tried", "found", "ignored", "restored")
        rows = [(name, *(column[name] for column in columns)) for name in self.tried]
        rows.append(("together", *(column.total() for column in columns)))
        lines = [f"{'damage':<32}" + "".join(f"{head:>10}" for head in heads)]
        lines += [f"{name:<32}" + "".join(f"{n:>10}" for n in numbers) for name, *numbers in rows]
        return "\n".join([*lines, f"{len(self.problems)} not as they should be"])


class Trials:
    """Damages files of one scene after another.

    Args:
        world: Where.
        most: Commands of a kind that are typed after a damage, and remedies that are followed,
            drawn by chance.
        rng: Draws them.
    """

    def __init__(self, world: World, most: int, rng: random.Random) -> None:
        self.world, self.tally, self.most, self.rng = world, Tally(), most, rng

    def begin(self, scene: Scene) -> None:
        """Make a scene, and learn what its commands do where nothing is damaged."""
        self.scene, world = scene, self.world
        world.make(scene)
        self.whole = world.contents()
        self.end = {}
        self.undisturbed: dict[Words, tuple[Ended, dict[str, str]]] = {}
        for words in (*scene.read, *scene.steps, scene.end):
            world.put_back()
            ended = world.type(words)
            assert ended.code == 0, (words, ended.err)
            self.undisturbed[words] = ended, world.tensors()
        world.put_back()

    def cases(self, rng: random.Random) -> Iterator[tuple[str, Damage]]:
        """Yield every file of the scene with every damage of it."""
        here = self.world.here
        key = json.loads((here / "run" / "run.json").read_text())["stream_key"]
        files = tuple(each.replace("KEY", key[:FOLDER_LENGTH]) for each in self.scene.files)
        for name in self.whole:
            path = here / name
            if name.startswith(files):
                for damage in damages(path, twins(self.scene, path, here), rng):
                    yield name, damage

    def try_(self, name: str, damage: Damage) -> None:
        """Damage a file, type all commands, follow what they say, and count what came of it."""
        self.problems: list[str] = []
        self.remedies: list[str] = []
        path = self.world.here / name
        self.original = path.read_bytes()
        self._damage(path, damage)
        if path.is_file() and path.read_bytes() == self.original:
            return
        seen = [self._look(words, path) for words in self.scene.looks]
        if seen[-1] == 0 and self._matters(path):
            self.problems.append(f"{self.scene.looks[-1][0]} does not see it")
        seen += [self._use(words, path, damage) for words in self._chosen()]
        remedies = list(dict.fromkeys(self.remedies))[: self.most]
        restored = [self._follow(each, path, damage) for each in remedies]
        self._count(name, damage, seen, all(restored))
        self.world.put_back()

    def _chosen(self) -> list[Words]:
        """Return the commands of the scene, or some of both kinds."""
        kinds = (self.scene.read, self.scene.steps)
        return [
            words for kind in kinds for words in self.rng.sample(kind, min(self.most, len(kind)))
        ]

    def _damage(self, path: Path, damage: Damage) -> None:
        damage.apply(path)
        self.damaged = self.world.contents()

    def _matters(self, path: Path) -> bool:
        """Return whether what a damaged file says may be another thing now."""
        is_record = path.suffix == ".json" and path.parent.name.startswith("task-")
        if path.name in UNDECIDING or path.suffix in (".log", ".exit") or ".lock-" in path.name:
            return False
        if path.suffix == ".journal":
            return self._has_other_lines(path)
        if is_record and not path.exists():
            return False  # a step without a record has not been done
        if path.parent.name.startswith("task-") and not is_record and not self._is_recorded(path):
            return False  # of a step that is being made again
        readers = {".json": json.loads, ".yaml": yaml.safe_load}
        if path.suffix not in readers or not path.is_file():
            return True
        try:
            read = readers[path.suffix]
            return bool(read(path.read_text()) != read(self.original.decode()))
        except (ValueError, yaml.YAMLError):
            return True

    def _has_other_lines(self, path: Path) -> bool:
        """Return whether a journal is no beginning of itself, from which a search goes on."""
        if not path.is_file():
            return path.is_dir() or path.exists()
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        return not self.original.startswith(whole)

    def _is_recorded(self, path: Path) -> bool:
        """Return whether a record names a tensor file; a checkpoint needs none."""
        records = (json.loads(record.read_text()) for record in path.parent.glob("*.json"))
        names = [name for record in records for name in record.get("outputs", ())]
        return path.stem == "checkpoint" or any(name.endswith(path.name) for name in names)

    def _look(self, words: Words, path: Path) -> int:
        """Type a command that changes nothing, whatever it finds."""
        ended = self.world.type(words)
        if ended.code != 0:
            self._refused(words, ended, path)
        if self.world.contents() != self.damaged:
            self.problems.append(f"{words[0]} changed files")
        return ended.code

    def _use(self, words: Words, path: Path, damage: Damage) -> int:
        """Type a command that may use the file."""
        ended = self.world.type(words)
        if ended.code != 0:
            self._refused(words, ended, path)
            if changed := self._changed(self.damaged):
                self.problems.append(f"{words[0]} ended with {ended.code} and changed {changed}")
        else:
            self._done(words, ended, path)
        if self._changed(self.damaged):
            self.world.put_back()
            self._damage(path, damage)
        return ended.code

    def _changed(self, before: dict[str, str]) -> list[str]:
        now = self.world.contents()
        return sorted(name for name in now.keys() | before if now.get(name) != before.get(name))

    def _refused(self, words: Words, ended: Ended, path: Path) -> None:
        title = f"{words[0]} ended with {ended.code}"
        if ended.code not in _FOUND or "Traceback" in ended.err:
            self.problems.append(f"{title}: {ended.err.strip()[-300:]}")
            return
        _, is_there, remedy = ended.err.partition("fix: ")
        if not is_there:
            self.problems.append(f"{title} without a remedy: {ended.err[-300:]}")
        named = (path.name, f"{path.parent} is not a run", "stale")
        if not any(each in ended.err for each in named) and not self._is_step_named(
            path, ended.err
        ):
            self.problems.append(f"{title} and does not name the file: {ended.err[-300:]}")
        self.remedies.append(remedy.strip())

    def _is_step_named(self, path: Path, said: str) -> bool:
        """Return whether the step is named whose record a file is."""
        commands = {"train.json": "train", "subspace.json": "build", "accuracy.json": "evaluate"}
        return path.name in commands and commands[path.name] in said

    def _done(self, words: Words, ended: Ended, path: Path) -> None:
        """Compare what a command did with what it does where nothing is damaged."""
        expected, tensors = self.undisturbed[words]
        name = str(path.relative_to(self.world.here))
        is_said = "stale" in ended.out + ended.err or not path.exists()
        if words in self.scene.read and ended.out != expected.out and not is_said:
            self.problems.append(f"{words[0]} printed something else: {ended.out[-300:]}")
        found = self.world.tensors()
        others = sorted(n for n in found.keys() | tensors if found.get(n) != tensors.get(n))
        others = [n for n in others if n != name or found.get(n) != self.damaged.get(n)]
        if not path.exists():  # without its record another step may come first
            others = [n for n in others if not n.endswith("checkpoint.safetensors")]
        if words[0] == "prune":  # it may keep more
            others = [n for n in others if found.get(n) != self.whole.get(n)]
        if others:
            self.problems.append(f"{words[0]} ended well and left other bits: {', '.join(others)}")

    def _follow(self, remedy: str, path: Path, damage: Damage) -> bool:
        """Do what a remedy says, and what those that follow say; return if all is well then."""
        self.world.put_back()
        self._damage(path, damage)
        followed = []
        for _ in range(_ROUNDS):
            followed.append(remedy)
            if re.search(r"\b(remove|delete) (it|that)\b", remedy):
                clear(path)
            lines = [part.strip() for part in re.findall(r"(ness [a-z][^;\n]*)", remedy)]
            for line in lines[:1]:
                ended = self.world.typed(line, self.scene.file)
                if ended.code not in (0, *_FOUND):
                    self.problems.append(f"{line}: {ended.code}, {ended.err[-300:]}")
                    return False
            if lines and ended.code != 0:  # another step comes first
                remedy = ended.err.partition("fix: ")[2].strip()
                continue
            if "go on with that version" in remedy:
                return True  # a number of a version may be damaged, too
            if not lines and re.search(r"\bput\b.*\bback\b", remedy):
                clear(path)
                path.write_bytes(self.original)
            ended = self.world.type(self.scene.end)
            if ended.code == 0:
                ended = self.world.type(self.scene.looks[-1])
            if ended.code == 0:
                break
            remedy = ended.err.partition("fix: ")[2].strip()
        if ended.code != 0:
            self.problems.append(f"{' / '.join(followed)}: leads to {ended.err.strip()[-300:]}")
            return False
        expected = self.undisturbed[self.scene.end][1]
        found = self.world.tensors()
        others = sorted(name for name in expected if found.get(name) != expected[name])
        if others:
            self.problems.append(f"{' / '.join(followed)}: leaves others: {', '.join(others)}")
        return not others

    def _count(self, name: str, damage: Damage, seen: list[int], is_restored: bool) -> None:
        tally, kind = self.tally, damage.name
        tally.tried[kind] += 1
        is_found = any(code in _FOUND for code in seen)
        tally.found[kind] += is_found
        tally.ignored[kind] += not is_found and not self.problems
        tally.restored[kind] += is_found and is_restored
        for problem in dict.fromkeys(self.problems):
            tally.problems.append(f"{self.scene.name}, {name}, {kind}: {problem}")
            print(tally.problems[-1], file=sys.stderr, flush=True)


def main() -> int:
    """Try what is asked for; return 1 if something was not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m faults.corruption", description=__doc__)
    parser.add_argument("--scenes", default="", help="separated by commas; all if empty")
    parser.add_argument("--files", default="", help="only files whose path has this in it")
    parser.add_argument("--damages", default="", help="only damages whose name has this in it")
    parser.add_argument("--most", type=int, default=0, help="damages of a scene; 0: all")
    parser.add_argument("--commands", type=int, default=2, help="of a kind after each; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    asked = parser.parse_args()
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        most = asked.commands or len(SCENES) * 10
        trials = Trials(World(Path(folder)), most, random.Random(asked.seed))
        os.environ["NESS_CACHE"] = str(trials.world.here / "cache")
        started = time.monotonic()
        for name in asked.scenes.split(",") if asked.scenes else SCENES:
            rng = random.Random(f"{asked.seed} {name}")
            trials.begin(SCENES[name])
            cases = [case for case in trials.cases(rng) if _is_asked(asked, *case)]
            if asked.most and len(cases) > asked.most:
                cases = rng.sample(cases, asked.most)
            for case in cases:
                trials.try_(*case)
            print(
                f"{name}: {len(cases)}, {time.monotonic() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    print(trials.tally.table())
    return 1 if trials.tally.problems else 0


def _is_asked(asked: argparse.Namespace, name: str, damage: Damage) -> bool:
    return asked.files in name and asked.damages in damage.name


if __name__ == "__main__":
    from faults import warm  # noqa: F401  for this process alone: nothing is drawn in it

    sys.exit(main())
