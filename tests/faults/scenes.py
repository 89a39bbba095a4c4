"""Commands on a tiny run: the files that each begins with, and what it leaves undisturbed."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from forked import Ended, Processes
from PIL import Image

from ness_cli.hashing import sha256_of_file
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_state

SMALL = (
    *("--preset", "digits", "data.protocol=split", "data.classes_per_task=2", "data.num_tasks=2"),
    *("data.limit_per_class=8", "train.epochs=1", "net.hidden=[6,5]", "checkpoint.seconds=0"),
    *("storage.progress_picture=false", "track.to=[jsonl]"),
)
IMPORTS = (
    *(f"ness_cli.cli.{name}" for name in ("extend_run", "fork_run", "predict_images")),
    *(f"ness_cli.cli.{name}" for name in ("prepare_targets", "run_study", "jobs", "gates")),
    *(f"ness_cli.stages.{name}" for name in ("export", "inspect", "predict", "prune", "report")),
    *(f"ness_cli.stages.{name}" for name in ("run", "verify", "prepared_data")),
    *("ness_cli.export.formats.torch", "ness_cli.trackers.jsonl", "ness_cli.study.engines.local"),
    *("ness_cli.plots.progress", "matplotlib.backends.backend_agg", "faults.layer", "faults.power"),
    "faults.warm",
    *(f"ness_cli.results.formats.{name}" for name in ("csv", "json", "latex", "markdown", "text")),
)


@dataclass(frozen=True)
class Scene:
    """A command, and the files that it begins with.

    Attributes:
        name: What it is called in tables.
        command: What is typed after ``ness``; ``{}`` stands for the folder that all lies in.
        after: The scene whose files it begins with, empty for none.
        done: Tells whether a second try would be refused because the first one was through.
    """

    name: str
    command: tuple[str, ...]
    after: str = ""
    done: Callable[[Path], bool] = lambda _folder: False


_TIMES = ("log.txt", "events.jsonl", "progress.json")
_TIME = re.compile(
    rb'"(seconds|train_seconds|finished|created|peak_memory_bytes|seal|epoch_seconds)": [^,\n}]*'
)
_CHANCE = re.compile(r"[.][a-z0-9_]+[.]tmp")  # of names that are not final


def _without_chance(path: Path) -> str:
    return _CHANCE.sub(".tmp", str(path))


def _num_tasks(folder: Path) -> int:
    return read_state(RunDir(folder / "run")).num_tasks


RUN = "{}/run"
SCENES = {
    scene.name: scene
    for scene in (
        Scene("prepare", ("prepare", "--out", RUN, *SMALL)),
        Scene("prepare again", ("prepare", "--out", RUN, *SMALL), "prepare"),
        Scene("train-task", ("train-task", RUN, "--task", "1"), "prepare"),
        Scene("build-subspace", ("build-subspace", RUN, "--task", "1"), "train-task"),
        Scene("evaluate", ("evaluate", RUN, "--task", "1"), "build-subspace"),
        Scene("run", ("run", "--out", RUN), "evaluate"),
        Scene("train-task --force", ("train-task", RUN, "--task", "2", "--force"), "run"),
        Scene("build-subspace --force", ("build-subspace", RUN, "--task", "1", "--force"), "run"),
        Scene("report", ("report", RUN, "--save", "{}/report"), "run"),
        Scene("inspect", ("inspect", RUN), "run"),
        Scene("status", ("status", RUN), "run"),
        Scene("verify", ("verify", RUN, "--evaluate"), "run"),
        Scene("predict", ("predict", RUN, "{}/images", "--csv"), "run"),
        Scene(
            "extend",
            ("extend", RUN, "data.num_tasks=1"),
            "run",
            done=lambda folder: _num_tasks(folder) == 3,
        ),
        Scene(
            "extend --undo",
            ("extend", RUN, "--undo"),
            "extend",
            done=lambda folder: _num_tasks(folder) == 2,
        ),
        Scene(
            "fork",
            ("fork", RUN, "--out", "{}/fork", "methods.ness.eps1=1e-2"),
            "run",
            done=lambda folder: (folder / "fork" / "run.json").exists(),
        ),
        Scene(
            "export",
            ("export", RUN, "{}/export", "--to", "torch"),
            "run",
            done=lambda folder: (folder / "export").exists(),
        ),
        Scene("prune", ("prune", RUN), "run"),
        Scene("cache prune", ("cache", "prune", "--runs", "{}/other"), "run"),
    )
}
"""Every scene by its name."""


class World:
    """A folder in which scenes are played.

    Args:
        folder: Where to make all files.
        processes: Starts commands.
    """

    def __init__(self, folder: Path, processes: Processes) -> None:
        self.here = folder / "here"
        self._folder, self._processes = folder, processes
        self._before: dict[str, Path] = {"": folder / "empty"}
        self._before[""].mkdir(parents=True)
        self._expected: dict[str, dict[str, str]] = {}
        (folder / "run").mkdir()

    def type(self, command: tuple[str, ...], **how: object) -> Ended:
        """Type a command."""
        typed = [word.replace("{}", str(self.here)) for word in command]
        return self._processes.ness(*typed, **how)

    def begin(self, scene: Scene) -> None:
        """Put the files in place that a scene begins with."""
        before = self._after(scene.after)
        shutil.rmtree(self.here, ignore_errors=True)
        shutil.copytree(before, self.here)

    def clear(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.here)

    def expected(self, scene: Scene) -> dict[str, str]:
        """Return the hashes of the tensor files that a scene leaves undisturbed."""
        self._after(scene.name)
        return self._expected[scene.name]

    def state(self) -> str:
        """Return a hash of all files but for what differs from time to time."""
        digest = hashlib.sha256()
        for path in sorted(self.here.rglob("*"), key=_without_chance):
            if path.name in _TIMES or path.name.startswith(".lock-"):
                continue
            digest.update(f"{_without_chance(path)}\n".encode())
            if path.is_file():
                digest.update(_TIME.sub(b"", path.read_bytes()))
        return digest.hexdigest()

    def tensors(self) -> dict[str, str]:
        """Return the hash of every tensor file that is there now."""
        found = sorted(self.here.rglob("*.safetensors"))
        return {str(path.relative_to(self.here)): sha256_of_file(path) for path in found}

    def _after(self, name: str) -> Path:
        if name not in self._before:
            scene = SCENES[name]
            self.begin(scene)
            ended = self.type(scene.command)
            assert ended.code == 0, ended.err
            if name == "run":
                self._add_beside()
            self._expected[name] = self.tensors()
            place = self._folder / "after" / name
            shutil.copytree(self.here, place)
            self._before[name] = place
        return self._before[name]

    def _add_beside(self) -> None:
        """Add images to predict, and a run whose images are others."""
        (self.here / "images").mkdir()
        for number in range(3):
            image = Image.new("L", (8, 8), 40 * number)
            image.save(self.here / "images" / f"{number}.png")
        (self.here / "other").mkdir()
        other = {"num_tasks": 0, "stream_key": "0" * 64, "fingerprint": ""}
        (self.here / "other" / "run.json").write_text(json.dumps(other))


def broken_promises(here: Path) -> Iterator[str]:
    """Yield what is wrong with a run: steps that are said to be done and whose files are others."""
    for path in sorted(here.glob("*/run.json")):
        run = RunDir(path.parent)
        state = read_state(run)
        for step in state.steps:
            removed = step.record.get("removed", [])
            for name, sha256 in step.record.get("outputs", {}).items():
                file = run.path / name
                if step.is_done and name not in removed and sha256_of_file(file) != sha256:
                    yield f"{file} is not what the record of its step says"


def error_of(ended: Ended) -> dict:
    """Return the document of a command that was typed with ``--json``."""
    return json.loads(ended.out)["error"]
