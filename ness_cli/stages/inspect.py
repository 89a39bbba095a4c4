"""Look into a run: room left, what later updates did to earlier inputs, drift of old tasks.

Everything is measured on the training images of earlier tasks, where they are at hand. Inputs are
taken as the covariances took them: those of task i as model i saw them, or, where covariances are
recomputed, as the model before the update saw them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ness_cli.data.batches import Images
from ness_cli.errors import InputError, SettingsError
from ness_cli.methods.base import Method
from ness_cli.numerics import in_float64
from ness_cli.results.inspection import Inspection, room
from ness_cli.stages.context import RunContext, require_done, stopping
from ness_cli.stages.models import is_at_hand, load_model
from ness_cli.subspace.basis import read_bases
from ness_cli.subspace.clip import spectral_norm
from ness_cli.subspace.output_change import OutputChange
from ness_cli.subspace.watch import chunks_of_rows, watching

Matrices = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Update:
    """What task ``number`` changed in each layer, and what bounds it."""

    number: int
    changes: Matrices
    tau: Mapping[str, float]
    norm: Mapping[str, float]

    def bound(self, layer: str) -> float:
        """Return tau ||V||_2 (NESS 2026, Eq. 8)."""
        return self.tau[layer] * self.norm[layer]


def inspect(
    context: RunContext, *, num_images: int | None = None, needs_images: bool = False
) -> Inspection:
    """Measure what is known and what is promised of a run.

    Room and spectra are those of its files. The rest is measured on training images of earlier
    tasks; where prepared images are gone from the cache, it is left out.

    Args:
        context: The run.
        num_images: Images looked at per task, rounded up to whole batches; all when ``None``.
        needs_images: Refuse to leave out what needs images.

    Raises:
        InputError: If nothing is built yet, or files are missing; with ``needs_images``, or if they
            are there no more, prepared images.
        DamagedError: If a file does not read back.
        StoppedError: If a stop was requested.
    """
    state = context.state()
    require_done(state, 1, "train")
    require_done(state, 1, "build")
    built = [t for t in range(1, state.num_tasks + 1) if state.of(t, "build").is_done]
    last = max(t for t in range(1, state.num_tasks + 1) if state.of(t, "train").is_done)
    records = {task: state.of(task, "build").record for task in built}
    options = context.settings.options
    promised = getattr(options, "max_output_change", None)
    images, left_out = _images(context, range(1, last), needs_images=needs_images)
    updates = _updates(context, last) if images else []
    return Inspection(
        path=str(context.run.path),
        last=last,
        method=context.settings.method.name,
        rooms=room({task: record["layers"] for task, record in records.items()}),
        spectra=_spectra(context, records),
        updates=tuple(_changes(context, updates, images, num_images)),
        promised=promised,
        drift=tuple(_drift(context, images, last, num_images)),
        left_out=left_out,
    )


def _images(
    context: RunContext, tasks: Sequence[int], *, needs_images: bool
) -> tuple[dict[int, Images], str]:
    """Return training images by task, or none and a sentence on what is left out without them."""
    try:
        return {task: context.images(task, "train") for task in tasks}, ""
    except InputError as error:
        if needs_images:
            raise
        return {}, (
            "changes of earlier outputs and drift are left out, they need images:"
            f" {error.what} ({error.remedy})"
        )


def refuse_check(context: RunContext) -> None:
    """Refuse to check a run whose method claims no bound.

    Raises:
        SettingsError: If it does not.
    """
    if context.settings.method.name != "ness":
        raise SettingsError(
            f"--check: {context.settings.method.name} claims no bound that could be checked",
            "leave --check out",
        )


def _spectra(
    context: RunContext, records: Mapping[int, Mapping[str, Any]]
) -> dict[int, dict[str, dict[str, Any]]]:
    """Return, per task and layer, the spectrum and where its threshold lies."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for task, record in records.items():
        if not context.run.task(task).tensors("basis").exists():
            continue
        bases = read_bases(context.read(task, "basis", "build", {}))
        found[task] = {
            layer: {
                "sigma": bases[layer].sigma.tolist(),
                "tau": bases[layer].tau,
                "rank": bases[layer].rank,
            }
            for layer in (row["layer"] for row in record["layers"])
        }
    return found


def _method(context: RunContext, task: int) -> Method:
    return context.method(load_model(context, task, {}))


def _matrices(method: Method) -> Matrices:
    return {name: view.matrix().clone() for name, view in method.layers.items()}


def _updates(context: RunContext, last: int) -> list[_Update]:
    """Return the updates of tasks 2 to ``last``; none for methods that leave no V."""
    numbers = [t for t in range(2, last + 1) if context.run.task(t).tensors("update").exists()]
    found, before = [], _matrices(_method(context, 1)) if numbers else {}
    for number in numbers:
        after = _matrices(_method(context, number))
        bases = read_bases(context.read(number - 1, "basis", "build", {}))
        update = context.read(number, "update", "train", {})
        found.append(
            _Update(
                number,
                # Of the models, not of V: a V that is not the one that was applied must show.
                {layer: after[layer] - before[layer] for layer in bases},
                {layer: basis.tau for layer, basis in bases.items()},
                {layer: spectral_norm(update[f"{layer}.V"]) for layer in bases},
            )
        )
        before = after
    return found


def _changes(
    context: RunContext,
    updates: list[_Update],
    images: Mapping[int, Images],
    num_images: int | None,
) -> list[dict[str, Any]]:
    """Return one row per update, layer and earlier task."""
    if getattr(context.settings.options, "covariance", "") == "recompute":
        plan = [(u.number - 1, task, [u]) for u in updates for task in range(1, u.number)]
    else:
        plan = [(task, task, [u for u in updates if u.number > task]) for task in images]
    plan = [(model, task, later) for model, task, later in plan if later]
    size = context.settings.evaluate.batch_size
    total = sum(len(_first(images[task].pieces(size), num_images)) for _, task, _ in plan)
    rows: list[dict[str, Any]] = []
    with context.place.progress.track("changes of earlier outputs", max(1, total)) as track:
        advance = stopping(context.place, f"ness inspect {context.run.path}", track)
        for model, task, later in plan:
            method = _method(context, model)
            rows += _changes_on(context, method, images[task], later, num_images, advance)
    return sorted(rows, key=lambda row: (row["task"], row["on_task"]))


def _first(pieces: list[slice], num_images: int | None) -> list[slice]:
    """Return the batches looked at: all, or the first so many images."""
    return [piece for piece in pieces if num_images is None or piece.start < num_images]


@torch.no_grad()
def _changes_on(
    context: RunContext,
    method: Method,
    images: Images,
    updates: list[_Update],
    num_images: int | None,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Return a row per layer and update: what it changes on the images, and what it may."""
    layers = {name: view for name, view in method.layers.items() if name in updates[0].changes}
    by_number = {update.number: update for update in updates}
    sums = {
        name: OutputChange(
            view.matrix(),
            {number: update.changes[name] for number, update in by_number.items()},
            {number: update.bound(name) for number, update in by_number.items()},
            groups=view.groups,
        )
        for name, view in layers.items()
    }

    def see(name: str, x: torch.Tensor) -> None:
        for rows in chunks_of_rows(layers[name], x):
            sums[name].add(rows)
            advance(0)

    with watching(layers, see), method.task_view(images.task) as model:
        # The very batches that the covariances were summed over.
        for piece in _first(method.pieces(images), num_images):
            model(images.batch(piece).x)
            advance(1)
    return [
        {
            "task": number,
            "layer": name,
            "on_task": images.task,
            "tau": by_number[number].tau[name],
            "norm": by_number[number].norm[name],
            "bound": by_number[number].bound(name),
            **change.as_json(),
        }
        for name, own in sums.items()
        for number, change in own.result().items()
    ]


@torch.no_grad()
def _drift(
    context: RunContext, images: Mapping[int, Images], last: int, num_images: int | None
) -> list[dict[str, Any]]:
    """Return, per earlier task, how far the newest model has drifted from the task's own.

    Tasks whose model is not kept are left out.

    No bound on a layer covers this: what moves one layer moves the inputs of the next.
    """
    found = []
    newest = _method(context, last)
    with context.place.progress.track("drift of earlier tasks", max(1, len(images))) as track:
        advance = stopping(context.place, f"ness inspect {context.run.path}", track)
        for task, own in images.items():
            if not is_at_hand(context, task):
                advance(1)
                continue
            then = _method(context, task)
            moved: dict[str, list[float]] = {}
            changed, seen, logits = 0, 0, [0.0, 0.0]
            for piece in _first(newest.pieces(own), num_images):
                x = own.batch(piece).x
                advance(0)
                old, new = (_inputs(method, task, x) for method in (then, newest))
                for layer, value in old.items():
                    sums = moved.setdefault(layer, [0.0, 0.0])
                    difference = new[layer] - value
                    if layer == "logits":
                        changed += int((new[layer].argmax(1) != value.argmax(1)).sum())
                        sums = logits
                    sums[0] += float(in_float64(difference).square().sum())
                    sums[1] += float(in_float64(value).square().sum())
                seen += len(x)
            moved.pop("logits", None)
            found.append(
                {
                    "task": task,
                    "layers": {layer: _relative(sums) for layer, sums in moved.items()},
                    "logits": _relative(logits),
                    "predictions_changed_percent": 100 * changed / max(1, seen),
                }
            )
            advance(1)
    return found


def _inputs(method: Method, task: int, x: torch.Tensor) -> Matrices:
    """Return what goes into every layer, and the logits, when ``x`` passes as task ``task``."""
    found: Matrices = {}
    with watching(method.layers, found.__setitem__), method.task_view(task) as model:
        logits = model(x)
    return {**found, "logits": logits}


def _relative(sums: list[float]) -> float:
    return (sums[0] / sums[1]) ** 0.5 if sums[1] > 0 else 0.0
