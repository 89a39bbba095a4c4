"""What stands beside an exported model: a README with the front matter that model hubs read."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ness_cli.results.formats.markdown import escaped
from ness_cli.results.read_run import RunResult
from ness_cli.settings import yaml_files
from ness_cli.settings.components import METHODS

_LIBRARIES = {"torch": "pytorch", "pt2": "pytorch", "merged": "pytorch"}


@dataclass(frozen=True)
class Exported:
    """A model that was written.

    Attributes:
        run: The results of its run.
        format: Name of the format.
        out: The folder.
        task: The task whose head answers; ``None`` if the task is an input.
        after: The task after which the model is.
        classes: Names of the classes of every exported task.
        image_shape: ``(c, h, w)`` of its images.
        constants: Mean and standard deviation of pixels in 0..1 of every exported task, per
            channel.
        added: Settings of tasks that were appended, where they differ, by which tasks these are.
        usage: How a program uses it, Markdown.
        difference: The largest difference of a logit from the run's own.
        num_images: How many images were compared.
    """

    run: RunResult
    format: str
    out: Path
    task: int | None
    after: int
    classes: Mapping[int, Sequence[str]]
    image_shape: tuple[int, int, int]
    constants: Mapping[int, tuple[Sequence[float], Sequence[float]]]
    added: Mapping[str, Mapping[str, Any]]
    usage: str
    difference: float
    num_images: int

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        which = f"tasks 1 to {self.after}" if self.task is None else f"task {self.task}"
        return f"{which}, after task {self.after}, learned with {self.run.method}"

    @property
    def checked(self) -> str:
        """What was found when it was compared with the run."""
        which = f"logits of {self.num_images} images"
        if not self.difference:
            return f"{which} were the run's own, to the bit"
        return f"{which} differed from the run's own by {self.difference:.1e} at most"

    def document(self) -> dict[str, Any]:
        """Return what scripts read, plain values."""
        return {
            "schema": "ness.export/1",
            "format": self.format,
            "out": str(self.out),
            "task": self.task,
            "after": self.after,
            "classes": {str(t): list(names) for t, names in self.classes.items()},
            "largest_difference": self.difference,
            "num_images": self.num_images,
            "files": sorted(p.relative_to(self.out).as_posix() for p in self.out.rglob("*.*")),
        }

    def accuracies(self) -> dict[int, float]:
        """Return the measured accuracies of exported tasks, percent."""
        rows = self.run.task_incremental.rows
        row = rows[self.after - 1] if len(rows) >= self.after else None
        found = {t: row[t - 1] for t in self.classes} if row else {}
        return {t: value for t, value in found.items() if value is not None}


def model_card(exported: Exported) -> str:
    """Return the README of an exported model."""
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(exported), sort_keys=False)}---",
        f"# {exported.title[0].upper()}{exported.title[1:]}",
        f"An image classifier, format `{exported.format}`. Read back from these files,"
        f" {exported.checked}.",
        f"## Use\n\n{exported.usage}",
        f"## Images\n\n{_images(exported)}",
        f"## Classes\n\n{_classes(exported)}",
        f"## Accuracy\n\n{_accuracy(exported)}",
        f"## Method\n\n{_method(exported)}",
        f"## Settings\n\n```yaml\n{_settings(exported)}```",
        "## Licence\n\nCode in this folder, and `ness`, which wrote it: MIT. What may be done with"
        " the weights follows from the images that they were learned from, and from the licence of"
        " pretrained weights if training started from any.",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(exported: Exported) -> dict[str, Any]:
    results = [
        {
            "task": {"type": "image-classification"},
            "dataset": {"name": f"{_data(exported)}, task {t}", "type": _data(exported)},
            "metrics": [{"type": "accuracy", "value": round(value / 100, 4)}],
        }
        for t, value in exported.accuracies().items()
    ]
    known: dict[str, Any] = {
        "pipeline_tag": "image-classification",
        "library_name": _LIBRARIES.get(exported.format, exported.format),
        "tags": ["continual-learning", exported.run.record["method"]],
    }
    if results:
        known["model-index"] = [{"name": exported.run.path.resolve().name, "results": results}]
    return known


def _data(exported: Exported) -> str:
    return str(exported.run.record["identity"].get("data.source", "images"))


def _images(exported: Exported) -> str:
    channels, height, width = exported.image_shape
    colours = "RGB" if channels == 3 else "grey" if channels == 1 else f"{channels} channels"
    lines = [
        f"{colours}, {height} x {width} pixels (height x width), in the layout `[n, channels,"
        " height, width]`. `ness` also turned photographs as their EXIF says, and laid transparent"
        " pixels over white.",
        "Constants of normalisation, (x / 255 - mean) / std per channel:",
        "| task | mean | std |\n|---|---|---|",
    ]
    rows = [
        f"| {t} | {_numbers(mean)} | {_numbers(std)} |"
        for t, (mean, std) in exported.constants.items()
    ]
    protocol = str(exported.run.record["identity"].get("data.protocol", "split"))
    note = f"\n\nThe pixels of every task are {protocol}: give them so." * (protocol != "split")
    return "\n\n".join(lines) + "\n" + "\n".join(rows) + note


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.9g}" for value in values)


def _classes(exported: Exported) -> str:
    rows = [
        f"| {t} | {k} | {escaped(name)} |"
        for t, names in exported.classes.items()
        for k, name in enumerate(names)
    ]
    return "| task | output | class |\n|---|---|---|\n" + "\n".join(rows)


def _accuracy(exported: Exported) -> str:
    found = exported.accuracies()
    if not found:
        return f"Not measured (`ness evaluate RUN --task {exported.after}`)."
    counts = {task.number: task.num_test for task in exported.run.tasks}
    rows = [
        f"| {t} | {value:.2f} | {counts[t] if counts.get(t) is not None else '?'} |"
        for t, value in found.items()
    ]
    head = "Percent of test images, the task being known.\n\n| task | accuracy | images |\n"
    return head + "|---|---|---|\n" + "\n".join(rows)


def _method(exported: Exported) -> str:
    name = exported.run.record["method"]
    module = sys.modules[METHODS.model(name, setting="method.name").__module__]
    summary = (module.__doc__ or "").partition("\n")[0]
    return (
        f"`{exported.run.method}`, seed {exported.run.record['seed']}: {summary} Tasks were learned"
        " one after another, without the images of earlier ones unless the method says otherwise."
    )


def _settings(exported: Exported) -> str:
    identity = exported.run.record["identity"]
    lines = [_line(key, value) for key, value in identity.items()]
    for which, own in exported.added.items():
        lines.append(f"# {which}, added later{':' if own else ', with the same'}\n")
        lines += [f"# {_line(key, value)}" for key, value in own.items()]
    return "".join(lines)


def _line(key: str, value: Any) -> str:
    return f"{key}: {yaml_files.typed(value)}\n"
