"""Commands on tiny runs: the files that each begins with, and what it leaves undisturbed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.contents import comparable, without_times
from forked import Ended, Processes
from PIL import Image

from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_state

_DATA = (
    *("data.protocol=split", "data.classes_per_task=2", "data.limit_per_class=8"),
    *("train.epochs=1", "net.hidden=[6,5]", "checkpoint.seconds=0", "track.to=[jsonl]"),
)
SMALL = (*_DATA, "data.num_tasks=2", "storage.progress_picture=false")
_STUDY = {
    "base": "digits",
    "seeds": [1],
    "settings": [*_DATA, "data.num_tasks=1", "storage.progress_picture=false"],
    "rows": {"plain": [], "looser": ["methods.ness.eps1=0.1"]},
}
_SEARCH = {
    **{key: _STUDY[key] for key in ("base", "seeds", "settings")},
    "search": {"space": {"train.lr": [0.02, 0.1]}, "trials": 2, "random": 1},
}
_PUBLISHED = {
    "extends": "digits",
    "about": {"published": {"acc": 50, "source": "nowhere"}, "seeds": [1], "acc_tolerance": 100},
}
LIBRARIES = {
    "export peft": ("faults.peft_library",),
    "export onnx": ("torch.onnx", "onnxscript", "onnxruntime", "torch.export"),
    **dict.fromkeys(("export pt2", "export merged"), ("torch.export",)),
}
"""What scenes need besides, that takes seconds to import."""
IMPORTS = (
    *(f"ness_cli.cli.{name}" for name in ("extend_run", "fork_run", "predict_images")),
    *(f"ness_cli.cli.{name}" for name in ("prepare_targets", "run_study", "jobs", "gates")),
    *("ness_cli.cli.reproduce_preset", "ness_cli.stages.doctor", "ness_cli.stages.self_test"),
    *(f"ness_cli.stages.{name}" for name in ("export", "inspect", "predict", "prune", "report")),
    *(f"ness_cli.stages.{name}" for name in ("run", "verify", "prepared_data")),
    *(
        "ness_cli.export.formats.torch",
        "ness_cli.export.formats.peft",
        "ness_cli.trackers.jsonl",
        "ness_cli.study.engines.local",
        "ness_cli.study.engines.slurm",
    ),
    *("faults.layer", "faults.power", "faults.broken", "faults.warm", "faults.children"),
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
        brings: Folders that processes of its own write into; a power loss leaves them as they are.
        codes: Exit codes that it may have besides after a fault.
        is_inside: Whether it is typed in that folder, as it writes where it is typed.
        leaves: How names begin of what it may leave when it is killed.
        environment: Variables that it has besides, with ``{}`` as in the command.
    """

    name: str
    command: tuple[str, ...]
    after: str = ""
    done: Callable[[Path], bool] = lambda _folder: False
    brings: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    is_inside: bool = False
    leaves: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


def _num_tasks(folder: Path) -> int:
    return read_state(RunDir(folder / "run")).num_tasks


def _is_copied(folder: Path) -> bool:
    return (folder / "mine.yaml").exists()


OWN_FILE = (4,)
"""The exit code of a command that cannot read a file of the user's own."""
RUN = "{}/run"
PICTURED = ("--preset", "digits", *_DATA, "data.num_tasks=1")
SEEDS = (*("--preset", "digits", "--seeds", "1,2", "--jobs", "2", "--threads", "1"), *SMALL)
STUDY = ("--out", "{}/study", "--jobs", "2")
STUDIED = ("{}/study/plain", "{}/study/looser", "{}/cache")
TUNE = ("--out", "{}/tuned", "--jobs", "1")
TUNED = ("{}/tuned/lr=0.02", "{}/tuned/lr=0.1", "{}/cache")
# Every row is an array of its own, queued by commands that stand in for Slurm's.
QUEUE = (
    *("study", "run", "{}/study.yaml", "--out", "{}/queued", "--on", "slurm", "--device", "cpu"),
    "engines.slurm.array_size=1",
)
QUEUED = ("{}/cluster",)
CLUSTER = (
    ("PATH", f"{Path(__file__).parent / 'slurm'}:{os.environ['PATH']}"),
    ("CLUSTER", "{}/cluster"),
)
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
        Scene("run with a picture", ("run", "--out", "{}/pictured", *PICTURED)),
        Scene("run of two seeds", ("run", "--out", "{}/seeds", *SEEDS), brings=("{}/seeds",)),
        Scene("inspect", ("inspect", RUN), "run"),
        Scene("status", ("status", RUN), "run"),
        Scene("verify", ("verify", RUN, "--evaluate"), "run"),
        # Code 4: an image that cannot be read is left out.
        Scene("predict", ("predict", RUN, "{}/images", "--csv"), "run", codes=(4,)),
        Scene(
            "extend",
            ("extend", RUN, "data.num_tasks=1"),
            "run",
            done=lambda folder: _num_tasks(folder) == 3,
        ),
        Scene(
            "run extended",
            ("run", "--out", RUN),
            "extend",
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
        *(
            Scene(
                f"export {form}",
                ("export", RUN, f"{{}}/{form}", "--to", form),
                "run",
                done=lambda folder, form=form: (folder / form).exists(),
            )
            for form in ("peft", "onnx", "pt2", "merged")
        ),
        Scene("prune", ("prune", RUN), "run"),
        Scene("run again", ("run", "--out", RUN), "prune"),
        Scene("cache ls", ("cache", "ls"), "run"),
        Scene("cache prune", ("cache", "prune", "--runs", "{}/other"), "run"),
        Scene(
            "presets cp",
            ("presets", "cp", "digits", "{}/mine.yaml"),
            done=_is_copied,
            codes=OWN_FILE,
        ),
        Scene(
            "study run",
            ("study", "run", "{}/study.yaml", *STUDY),
            "run",
            brings=STUDIED,
            codes=(*OWN_FILE, 9),  # a run that cannot be read is listed among those that failed
        ),
        Scene("study status", ("study", "status", "{}/study"), "study run"),
        Scene("study table", ("study", "table", "{}/study", "--save", "{}/table"), "study run"),
        Scene(
            "slurm: study run",
            QUEUE,
            "run",
            brings=QUEUED,
            codes=OWN_FILE,
            environment=CLUSTER,
        ),
        Scene(
            "slurm: study run again",
            QUEUE,
            "slurm: study run",
            brings=QUEUED,
            codes=OWN_FILE,
            environment=CLUSTER,
        ),
        Scene(
            "slurm: study status",
            ("study", "status", "{}/queued"),
            "slurm: study run",
            environment=CLUSTER,
        ),
        Scene(
            "slurm: study stop",
            ("study", "stop", "{}/queued"),
            "slurm: study run",
            brings=QUEUED,
            leaves=(".slurm.stop.",),  # removed by the next `study run`
            environment=CLUSTER,
        ),
        Scene(
            "reproduce",
            ("reproduce", "{}/published.yaml", "--out", "{}/again", *SMALL),
            "run",
            codes=OWN_FILE,
        ),
        Scene(
            "doctor",
            ("doctor", "--no-self-test"),
            "run",
            is_inside=True,
            leaves=(".ness-doctor-",),
        ),
        Scene(
            "doctor with self-test",
            ("doctor", "--device", "cpu", "--threads", "1"),
            "run",
            is_inside=True,
            leaves=(".ness-doctor-", "tmp/ness-doctor-"),
            environment=(("TMPDIR", "{}/tmp"),),
        ),
        Scene("tune", ("tune", "{}/search.yaml", *TUNE), "run", brings=TUNED, codes=OWN_FILE),
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
        self._printed: dict[str, str] = {}

    def type(self, scene: Scene, **how: object) -> Ended:
        """Type the command of a scene."""
        before = Path.cwd()
        os.chdir(self.here if scene.is_inside else before)
        try:
            environment = {name: self.placed((own,))[0] for name, own in scene.environment}
            environment["COLUMNS"] = "300"  # a number that is folded is not known as one
            return self._processes.ness(*self.placed(scene.command), environment=environment, **how)
        finally:
            os.chdir(before)

    def placed(self, words: tuple[str, ...]) -> list[str]:
        """Return words of a scene with the folder that all lies in."""
        return [word.replace("{}", str(self.here)) for word in words]

    def begin(self, scene: Scene) -> None:
        """Put the files in place that a scene begins with."""
        before = self._after(scene.after)
        self.clear()
        shutil.copytree(before, self.here)

    def clear(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.here, ignore_errors=True)

    def play(self, scene: Scene) -> None:
        """Find out what a scene leaves undisturbed, if that is not known yet."""
        self._after(scene.name)

    def printed(self, scene: Scene) -> str:
        """Return what a scene, once played, printed undisturbed; no times."""
        return self._printed[scene.name]

    def others(self, scene: Scene, *, may_have_more: bool = False) -> list[str]:
        """Return the files that are not what the scene, once played, left undisturbed.

        Args:
            scene: The scene.
            may_have_more: Leave out those that are there and were not then.
        """
        expected, found = self._expected[scene.name], comparable(self.here)
        names = expected.keys() if may_have_more else expected.keys() | found
        others = sorted(name for name in names if expected.get(name) != found.get(name))
        return [name for name in others if not name.startswith(scene.leaves)]

    def _after(self, name: str) -> Path:
        if name not in self._before:
            scene = SCENES[name]
            self.begin(scene)
            ended = self.type(scene)
            assert ended.code == 0, ended.err
            self._expected[name] = comparable(self.here)
            self._printed[name] = without_times(ended.out)
            if name == "run":
                self._add_beside()
            place = self._folder / "after" / name
            shutil.copytree(self.here, place)
            self._before[name] = place
        return self._before[name]

    def _add_beside(self) -> None:
        """Add images, a run whose images are others, a preset, a study, a search, and folders."""
        for name in ("tmp", "cluster"):
            (self.here / name).mkdir()
        (self.here / "images").mkdir()
        for number in range(3):
            image = Image.new("L", (8, 8), 40 * number)
            image.save(self.here / "images" / f"{number}.png")
        (self.here / "other").mkdir()
        other = json.loads((self.here / "run" / "run.json").read_text())
        del other["seal"]
        other |= {"num_tasks": 0, "stream_key": "0" * 64}
        (self.here / "other" / "run.json").write_text(json.dumps(other))
        for name, study in (("study", _STUDY), ("search", _SEARCH)):
            (self.here / f"{name}.yaml").write_text(json.dumps(study))
        (self.here / "published.yaml").write_text(json.dumps(_PUBLISHED))
