"""Look into a run: room left, what later updates did to earlier inputs, drift of old tasks.

Everything is measured on the training images of earlier tasks, where they are at hand. Inputs are
taken as the covariances took them: those of task i as model i saw them, or, where covariances are
recomputed, as the model before the update saw them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ness_cli.data.batches import Images
from ness_cli.errors import InputError, SettingsError
from ness_cli.methods.base import Method
from ness_cli.methods.files import UpdateBound
from ness_cli.results.inspection import Inspection
from ness_cli.results.room import room
from ness_cli.run_state import COMMANDS
from ness_cli.stages.context import RunContext, require_done
from ness_cli.stages.forgetting_meter import measured_updates
from ness_cli.stages.models import is_at_hand, load_model, new_model
from ness_cli.stages.run_files import RunFiles
from ness_cli.subspace.drift import Drift
from ness_cli.subspace.layer_inputs import calling_between_layers, chunks_of_rows, observed_inputs
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.output_change import OutputChange
from ness_cli.workplace import stopping

Matrices = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Update:
    """What task ``number`` changed in each layer, and what bounds it."""

    number: int
    changes: Matrices
    bounds: Mapping[str, UpdateBound]


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
    for stale in state.stale(state.num_tasks):
        left = f"{COMMANDS[stale.step]} of task {stale.task} is stale and left out: {stale.why}"
        context.workplace.progress.note(left)
    require_done(state, 1, "train")
    require_done(state, 1, "build")
    built = [t for t in range(1, state.num_tasks + 1) if state.of(t, "build").is_done]
    last = max(t for t in range(1, state.num_tasks + 1) if state.of(t, "train").is_done)
    records = {task: state.of(task, "build").record for task in built}
    files = RunFiles(context)
    options = context.settings.options
    promised = getattr(options, "max_output_change", None)
    images, left_out = _images(context, range(1, last), needs_images=needs_images)
    updates = _updates(context, files, last) if images else []
    return Inspection(
        path=str(context.run.path),
        last=last,
        method=context.settings.method.name,
        rooms=room({task: record["layers"] for task, record in records.items()}),
        spectra=_spectra(context, files, built),
        updates=tuple(_changes(context, files, updates, images, num_images)),
        promised=promised,
        drift=tuple(_drift(context, files, images, last, num_images)),
        meter=measured_updates(context, state),
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
    if context.method_kind.bounds is Method.bounds:
        raise SettingsError(
            f"--check: {context.settings.method.name} claims no bound that could be checked",
            "leave --check out",
        )


def _spectra(
    context: RunContext, files: RunFiles, tasks: Iterable[int]
) -> dict[int, dict[str, dict[str, Any]]]:
    """Return, per task and layer, the spectrum and where its threshold lies."""
    name = context.method_kind.spectrum_file
    if name is None:
        return {}
    method = context.method(new_model(context))
    return {
        task: {
            layer: {"sigma": own.sigma.tolist(), "tau": own.tau, "rank": own.rank}
            for layer, own in method.spectra(files.read(task, name)).items()
        }
        for task in tasks
        if files.exists(task, name)
    }


def _method(context: RunContext, files: RunFiles, task: int) -> Method:
    """Return the method with the model after a task, and what it evaluates with."""
    method = context.method(load_model(context, task, files))
    files.load_memory(method, "evaluate", task)
    return method


def _matrices(method: Method) -> Matrices:
    return {name: view.matrix().clone() for name, view in method.layers.items()}


def _updates(context: RunContext, files: RunFiles, last: int) -> list[_Update]:
    """Return the updates of tasks 2 to ``last``; none for methods that claim no bound on them."""
    way = context.method_kind.recomposition
    if way is None:
        return []
    numbers = [t for t in range(2, last + 1) if all(files.exists(t, name) for name in way.own)]
    found, before = [], _matrices(_method(context, files, 1)) if numbers else {}
    for task_number in numbers:
        method = _method(context, files, task_number)
        after = _matrices(method)
        own = files.read_all(task_number, way.own)
        bounds = method.bounds(files.read_all(task_number - 1, way.before), own)
        # Of the models, not of the files: an update that is not the one applied must show.
        changes = {layer: after[layer] - before[layer] for layer in bounds}
        found.append(_Update(task_number, changes, bounds))
        before = after
    return found


def _changes(
    context: RunContext,
    files: RunFiles,
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
    total = sum(len(_first(images[task].batch_slices(size), num_images)) for _, task, _ in plan)
    rows: list[dict[str, Any]] = []
    with context.workplace.progress.track("changes of earlier outputs", max(1, total)) as track:
        advance = stopping(context.workplace, f"ness inspect {context.run.path}", track)
        for model, task, later in plan:
            method = _method(context, files, model)
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
    sums = {name: _output_change(view, updates, name) for name, view in layers.items()}
    maps = {name: b.T.to(layers[name].weight) for name, b in method.input_maps(images.task).items()}

    def see(name: str, x: torch.Tensor) -> None:
        for rows in chunks_of_rows(layers[name], x):
            sums[name].add(rows @ maps[name] if name in maps else rows)
            advance(0)

    with observed_inputs(layers, see), method.task_view(images.task) as model:
        # The very batches that the covariances were summed over.
        for piece in _first(method.batch_slices(images), num_images):
            model(images.batch(piece).x)
            advance(1)
    by_task_number = {update.number: update for update in updates}
    return [
        {
            "task": task_number,
            "layer": name,
            "on_task": images.task,
            **_plain(by_task_number[task_number].bounds[name]),
            **change.as_json(),
        }
        for name, own in sums.items()
        for task_number, change in own.result().items()
    ]


def _plain(bound: UpdateBound) -> dict[str, float]:
    return {"tau": bound.tau, "norm": bound.norm, "bound": bound.value}


def _output_change(view: LayerView, updates: Sequence[_Update], layer: str) -> OutputChange:
    """Return what measures the changes that updates make to a layer's outputs."""
    return OutputChange(
        view.matrix(),
        {update.number: update.changes[layer] for update in updates},
        {update.number: update.bounds[layer].value for update in updates},
        groups=view.groups,
    )


@torch.no_grad()
def _drift(
    context: RunContext,
    files: RunFiles,
    images: Mapping[int, Images],
    last: int,
    num_images: int | None,
) -> list[dict[str, Any]]:
    """Return, per earlier task, how far the newest model has drifted from the task's own.

    Tasks whose model is not kept are left out.
    """
    found = []
    newest = _method(context, files, last)
    with context.workplace.progress.track("drift of earlier tasks", max(1, len(images))) as track:
        advance = stopping(context.workplace, f"ness inspect {context.run.path}", track)
        for task, own in images.items():
            if is_at_hand(context, task):
                then, drift = _method(context, files, task), Drift()
                for piece in _first(newest.batch_slices(own), num_images):
                    x = own.batch(piece).x
                    with calling_between_layers(then.model, lambda: advance(0)):
                        old, logits = _passed(then, task, x)
                    with calling_between_layers(newest.model, lambda: advance(0)):
                        new, later = _passed(newest, task, x)
                    drift.update(old, new, logits, later)
                found.append({"task": task, **drift.compute()})
            advance(1)
    return found


def _passed(method: Method, task: int, x: torch.Tensor) -> tuple[Matrices, torch.Tensor]:
    """Return what goes into every layer, and the logits, when ``x`` passes as task ``task``."""
    found: Matrices = {}
    with observed_inputs(method.layers, found.__setitem__), method.task_view(task) as model:
        logits = model(x)
    return found, logits
