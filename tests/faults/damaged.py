"""Runs to damage, made once each, and commands typed at them within this process."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from faults.scenes import _SEARCH as SEARCH
from faults.scenes import _STUDY as STUDY
from forked import Ended
from PIL import Image
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.engine.checkpoint import CheckpointFile
from ness_cli.hashing import sha256_of_file

SMALL = (
    *("--preset", "digits", "data.protocol=split", "data.classes_per_task=2", "data.num_tasks=2"),
    *("data.limit_per_class=8", "train.epochs=1", "net.hidden=[6,5]", "track.to=[jsonl]"),
)
RUN, SEED, OTHER = "{}/run", "{}/another-seed", "{}/another-run"
_SECONDS = 300  # a command that takes longer hangs
UNDECIDING = (
    *("log.txt", "events.jsonl", "history.jsonl", "progress.png", "progress.json"),
    *("jsonl.json", "said.log", "said.exit"),
)
"""Files that decide nothing: neither tensors nor accuracies."""
_WRITTEN_ANYWAY = re.compile(r"log[.]txt$|[.]lock-\d+$|[.]lock-\d+$|events[.]jsonl$")

Words = tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """Files to damage, and what is typed then.

    Attributes:
        name: What it is called in tables.
        made: Commands that make it; ``{}`` stands for the folder that all lies in.
        read: Commands that use its files and write nothing into the run: what they print counts.
        steps: Commands that write into the run: the tensors that they leave count.
        files: What the paths of the files begin with that are damaged; ``KEY`` stands for the name
            of the folder of the run's images.
        end: The command that brings the run to its end.
        looks: Commands that change nothing whatever they find; the last one sees all damage.
        file: What is typed where a remedy says ``FILE``.
        before_end: Called around the last command that makes it.
    """

    name: str
    made: tuple[Words, ...]
    read: tuple[Words, ...] = ()
    steps: tuple[Words, ...] = ()
    files: tuple[str, ...] = ("run/",)
    end: Words = ("run", "--out", RUN)
    looks: tuple[Words, ...] = (("status", RUN), ("verify", RUN))
    file: str = ""
    before_end: Callable[[], object] = field(default=lambda: contextmanager(lambda: iter([0]))())


def ness(*words: object) -> Ended:
    """Type a command in this process; one that hangs is ended."""

    def hung(_number: int, _frame: FrameType | None) -> None:
        raise _HungError

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(_SECONDS)
    try:
        found = CliRunner().invoke(app, [str(word) for word in words])
    except _HungError:
        return Ended(0, -signal.SIGALRM, "", "it hangs")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    error = found.exception
    is_own = error is None or isinstance(error, SystemExit)
    said = found.stderr + ("" if is_own else f"Traceback: {error!r}")
    return Ended(0, found.exit_code, found.stdout, said)


class _HungError(BaseException):
    """A command took too long."""


@contextmanager
def stopped_at_a_checkpoint() -> Iterator[None]:
    """Have a training be asked to stop when it has written its first checkpoint."""
    save = CheckpointFile.save

    def save_and_ask(file: CheckpointFile, *state: object) -> None:
        save(file, *state)
        os.kill(os.getpid(), signal.SIGTERM)

    CheckpointFile.save = save_and_ask
    try:
        yield
    finally:
        CheckpointFile.save = save


def _made(*more: str) -> tuple[Words, ...]:
    """Return commands that make a run, one of another seed, and one of other images."""
    return (
        ("run", "--out", RUN, *SMALL, *more),
        ("run", "--out", SEED, *SMALL, *more, "seed=2"),
        ("run", "--out", OTHER, *SMALL, *more, "data.limit_per_class=9"),
    )


_READ = (
    ("report", RUN),
    ("predict", RUN, "{}/images", "--csv"),
    ("inspect", RUN),
    ("export", RUN, "{}/export", "--to", "torch"),
)
_TASK_2 = tuple((name, RUN, "--task", "2") for name in ("train-task", "build-subspace", "evaluate"))
_STEPS = tuple((*words, "--force") for words in _TASK_2)
_BOUNDED = ("methods.ness.scaling=bounded", "methods.ness.budget=0.1")
_FORK = ("fork", RUN, "--out", "{}/fork", "methods.ness.eps1=1e-2")
_EXTEND = ("extend", RUN, "data.num_tasks=1")
_NO_PICTURE = "storage.progress_picture=false"


def _studied(out: str, *more: str) -> Words:
    return ("study", "run", "{}/study.yaml", "--out", f"{{}}/{out}", "--jobs", "1", *more)


_STUDY_RUN = _studied("study")
_TUNE = ("tune", "{}/search.yaml", "--out", "{}/tuned", "--jobs", "1")


def _of(name: str, *more: str, **other: object) -> Scene:
    return Scene(name, _made(f"method.name={name}", _NO_PICTURE, *more), **other)


SCENES = {
    scene.name: scene
    for scene in (
        Scene(
            *("ness", _made(*_BOUNDED)),
            read=_READ,
            steps=(*_STEPS, _FORK, _EXTEND, ("prune", RUN), ("run", "--out", RUN)),
        ),
        *(_of(name, read=_READ[:2], steps=_STEPS) for name in ("gpm", "hat", "owm")),
        *(
            _of(name, f"methods.{name}.memory=16", read=_READ[:2], steps=_STEPS)
            for name in ("agem", "er")
        ),
        Scene(
            "prepared images",
            _made(_NO_PICTURE),
            read=(("predict", RUN, "{}/images", "--csv"),),
            steps=(*_STEPS, ("run", "--out", RUN), ("prepare", "--out", RUN)),
            files=("cache/KEY",),
        ),
        Scene(
            "within a task",
            (
                *_made(_NO_PICTURE, "train.epochs=2", "checkpoint.seconds=0"),
                ("train-task", RUN, "--task", "2", "--force"),
            ),
            steps=(("train-task", RUN), ("run", "--out", RUN, "--force")),
            end=("run", "--out", RUN, "--force"),
            before_end=stopped_at_a_checkpoint,
        ),
        Scene(
            "forked",
            (
                *_made(_NO_PICTURE),
                ("fork", RUN, "--out", "{}/fork", "methods.ness.eps1=1e-2"),
                ("run", "--out", "{}/fork"),
                ("fork", SEED, "--out", "{}/fork-of-seed", "methods.ness.eps1=1e-2"),
                ("run", "--out", "{}/fork-of-seed"),
            ),
            read=(("report", "{}/fork"), ("predict", "{}/fork", "{}/images", "--csv")),
            steps=(("build-subspace", "{}/fork", "--task", "1", "--force"),),
            files=("fork/",),
            looks=(("status", "{}/fork"), ("verify", "{}/fork")),
            end=("run", "--out", "{}/fork"),
        ),
        Scene(
            "extended",
            (
                *_made(_NO_PICTURE),
                *(("extend", run, "data.num_tasks=1") for run in (RUN, SEED)),
                *(("run", "--out", run) for run in (RUN, SEED)),
            ),
            read=(("report", RUN), ("predict", RUN, "{}/images", "--csv")),
            steps=(("train-task", RUN, "--task", "3", "--force"),),
        ),
        Scene(
            "study",
            (*_made(_NO_PICTURE)[:1], _STUDY_RUN, _studied("another-study", "--seeds", "2")),
            read=(("study", "table", "{}/study", "--save", "{}/table"),),
            steps=(_STUDY_RUN,),
            files=("study/study.", "study/plain/seed-1."),
            end=_STUDY_RUN,
            looks=(("study", "ls", "{}/study"), ("study", "status", "{}/study")),
            file="{}/study.yaml",
        ),
        Scene(
            "search",
            (*_made(_NO_PICTURE)[:1], _TUNE),
            steps=(_TUNE,),
            files=("tuned/study.", "tuned/search."),
            end=_TUNE,
            looks=(("study", "ls", "{}/tuned"), ("study", "status", "{}/tuned")),
            file="{}/search.yaml",
        ),
    )
}
"""Every scene by its name."""


class World:
    """A folder in which files are damaged, and put back.

    Args:
        folder: An empty folder; ``NESS_CACHE`` has to be ``here/cache`` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.here, self._whole = folder / "here", folder / "whole"

    def make(self, scene: Scene) -> None:
        """Make the files of a scene."""
        for path in (self.here, self._whole):
            shutil.rmtree(path, ignore_errors=True)
        self.here.mkdir(parents=True)
        (self.here / "images").mkdir()
        for number in range(3):
            image = Image.new("L", (8, 8), 40 * number)
            image.save(self.here / "images" / f"{number}.png")
        for name, study in (("study", STUDY), ("search", SEARCH)):
            (self.here / f"{name}.yaml").write_text(json.dumps(study))
        for words in scene.made[:-1]:
            ended = self.type(words)
            assert ended.code == 0, ended.err
        with scene.before_end():
            ended = self.type(scene.made[-1])
        assert ended.code in (0, 75), ended.err
        shutil.copytree(self.here, self._whole)

    def put_back(self) -> None:
        """Put every file back as the scene has it."""
        shutil.rmtree(self.here)
        shutil.copytree(self._whole, self.here)

    def type(self, words: Words) -> Ended:
        """Type a command."""
        return ness(*(word.replace("{}", str(self.here)) for word in words))

    def typed(self, line: str, file: str = "") -> Ended:
        """Type a line as it was printed, with a file where it says ``FILE``."""
        words = re.sub(r" [(].*| writes it anew.*", "", line)
        file = file.replace("{}", str(self.here))
        return ness(*(file if word == "FILE" else word for word in shlex.split(words)[1:]))

    def contents(self) -> dict[str, str]:
        """Return what every file is, but for those that every command writes."""
        found = {}
        for path in sorted(self.here.rglob("*")):
            name = str(path.relative_to(self.here))
            if _WRITTEN_ANYWAY.search(name):
                continue
            if path.is_symlink():
                found[name] = f"link to {os.readlink(path)}"
            elif path.is_file():
                found[name] = sha256_of_file(path)
            elif not path.is_dir():
                found[name] = "neither file nor folder"
        return found

    def tensors(self, run: str = "") -> dict[str, str]:
        """Return the hash of every tensor file, of one run or of all."""
        found = self.contents()
        wanted = (name for name in found if name.endswith(".safetensors"))
        return {name: found[name] for name in wanted if name.startswith(run)}


def twins(scene: Scene, path: Path, here: Path) -> Mapping[str, Path]:
    """Return files with the name of one, by where they are: of other runs, seeds and tasks."""
    name, found = path.relative_to(here), {}
    top = name.parts[0]
    if top == "cache":
        others = {"task": path.with_name(path.name.replace("-01-", "-02-"))}
        others["split"] = path.with_name(path.name.replace("-train", "-test"))
        folders = (folder for folder in path.parent.parent.iterdir() if folder != path.parent)
        others["stream"] = next(iter(sorted(folders))) / path.name
    elif top in ("study", "tuned"):
        others = {"study": here / "another-study" / name.relative_to(top)}
    else:
        rest = name.relative_to(top)
        seed = "fork-of-seed" if top == "fork" else "another-seed"
        others = {"seed": here / seed / rest, "run": here / "another-run" / rest}
        number = "2" if "task-01" in rest.parts[0] else "1"
        others["task"] = here / top / f"task-0{number}" / rest.name
    for where, twin in others.items():
        if twin != path and twin.is_file() and twin.read_bytes() != path.read_bytes():
            found[where] = twin
    return found
