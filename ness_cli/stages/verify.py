"""Check that the files of a run are what its steps wrote, and that they fit each other."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ness_cli import tensor_files
from ness_cli.data.store import prepared
from ness_cli.errors import DamagedError, InputError
from ness_cli.extensions import read_extensions, way_to_prepare
from ness_cli.file_kinds import require_file
from ness_cli.hashing import sha256_of_file
from ness_cli.methods.base import Method
from ness_cli.methods.files import MethodFile
from ness_cli.run_state import RECORDS, StepState, command
from ness_cli.stages.context import RunContext
from ness_cli.stages.evaluate import score
from ness_cli.stages.models import (
    MODEL,
    is_at_hand,
    is_recomposable,
    load_matrices,
    new_model,
    stored_matrices,
)
from ness_cli.stages.run_files import RunFiles
from ness_cli.stages.train_task import way_past_checkpoint
from ness_cli.stages.trained_model import trained_method

_ORTHONORMAL = 1e-4  # of float32 columns; what training needs is far coarser
_SYMMETRIC = 1e-9  # relative, of float64 sums
_SPECTRUM = 1e-5  # relative to the largest singular value: square roots of rounding errors
_SCORE = 0.5  # percent: another device rounds otherwise, and a few images with it


@dataclass
class Verified:
    """What was checked, by number.

    Attributes:
        files: Files whose hash is the recorded one.
        bytes: Their size.
        images: Files of prepared images, likewise.
        matrices: Tensors found orthonormal or symmetric.
        spectra: Layers whose singular values are those of their covariance.
        updates: Tasks whose weights follow from those before and the update.
        rows: Rows of accuracies that were measured again.
        left_out: Lines on what could not be checked.
    """

    files: int = 0
    bytes: int = 0
    images: int = 0
    matrices: int = 0
    spectra: int = 0
    updates: int = 0
    rows: int = 0
    left_out: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "left_out": list(self.left_out)}


def verify(context: RunContext, *, evaluate: bool = False) -> Verified:
    """Check every file of a run, in the order of the steps, and its prepared images.

    Args:
        context: The run.
        evaluate: Measure all accuracies again, too; it needs the test images.

    Raises:
        InputError: If a file is missing, or of a run with other settings; names the first.
        DamagedError: If one is not what was written, or what it holds cannot be; names it.
        StoppedError: If a stop was requested.
    """
    found, state = Verified(), context.state()
    done = [step for step in state.steps if step.record]
    with context.workplace.progress.track("checking files", len(done)) as advance:
        for step in done:
            _check_hashes(context, step, found)
            context.workplace.stop.check("nothing was changed", f"ness verify {context.run.path}")
            advance(1)
    _check_checkpoints(context, state.num_tasks, found)
    _check_images(context, found)
    method, files = context.method(new_model(context)), RunFiles(context)
    for step in done:
        for declared in method.files:
            if declared.made_by == step.step and files.exists(step.task, declared.name):
                _check_tensors(context, method, declared, step.task, found)
        if step.step == "train":
            _check_update(context, method, step.task, found)
    if evaluate:
        _check_scores(context, method, found)
    return found


def _check_hashes(context: RunContext, step: StepState, found: Verified) -> None:
    removed = step.record.get("removed", [])
    remedy = f"run: {command(context.run.path, step.step, step.task)} --force"
    if step.record.get("fingerprint") != context.fingerprint(step.task, step.step):
        path = context.run.task(step.task).record(RECORDS[step.step])
        raise InputError(f"{path} does not belong here: it was made with other settings", remedy)
    for name, sha256 in step.record.get("outputs", {}).items():
        path = context.run.path / name
        if not path.exists():
            if name in removed:
                continue
            raise InputError(f"{path} is missing", remedy)
        require_file(path, remedy)
        if sha256_of_file(path) != sha256:
            raise DamagedError(f"{path} is damaged: it is not what was written", remedy)
        found.files += 1
        found.bytes += path.stat().st_size


def _check_checkpoints(context: RunContext, num_tasks: int, found: Verified) -> None:
    for task in range(1, num_tasks + 1):
        path = context.run.task(task).checkpoint
        if os.path.lexists(path):  # a link to nothing is damage too
            tensor_files.read_with_identity(path, remedy=way_past_checkpoint(context, task))
            found.files += 1
            found.bytes += path.stat().st_size


def _check_images(context: RunContext, found: Verified) -> None:
    """Check the prepared images of the run, those in the cache."""
    extensions = read_extensions(context.run_record)
    remedy = way_to_prepare(context.run.path)
    for key in (context.stream.key, *(each.stream["key"] for each in extensions)):
        manifest = prepared(context.workplace.cache, key, remedy=remedy)
        if manifest is None:
            found.left_out += (f"images {key[:8]}...: they are not in the cache",)
            continue
        found.images += sum(len(task["splits"]) for task in manifest["tasks"])


def _check_tensors(
    context: RunContext, method: Method, declared: MethodFile, task: int, found: Verified
) -> None:
    """Check the form of a file's tensors, and its spectra against the covariance."""
    files = RunFiles(context)
    tensors = files.read(task, declared.name)
    path = context.run.task(task).tensors(declared.name)
    for key, tensor in tensors.items():
        layer, _, kind = key.rpartition(".")
        problem = "" if torch.isfinite(tensor.double()).all() else "it is not finite"
        if kind in declared.orthonormal:
            problem = problem or _not_orthonormal(tensor, method, layer)
            found.matrices += 1
        elif kind in declared.symmetric:
            problem = problem or _not_symmetric(tensor)
            found.matrices += 1
        if problem:
            raise _wrong(path, key, problem, context, declared.made_by, task)
    if declared.name != method.spectrum_file or not files.exists(task, "covariance"):
        return
    covariances = files.read(task, "covariance")
    for layer, spectrum in method.spectra(tensors).items():
        covariance = covariances.get(f"{layer}.C")
        if covariance is None or covariance.dim() != 2:
            continue
        if problem := _other_spectrum(spectrum.sigma, covariance):
            raise _wrong(path, f"{layer}.sigma", problem, context, declared.made_by, task)
        found.spectra += 1


def _not_orthonormal(columns: torch.Tensor, method: Method, layer: str) -> str:
    """Return what is wrong with columns ``[d, k]`` that should be orthonormal, or nothing."""
    if columns.dim() != 2:
        return f"its shape is {list(columns.shape)}, not [d, k]"
    known = method.layers.get(layer)
    if known is not None and len(columns) not in (known.dim, len(known.matrix())):
        return f"its columns have {len(columns)} entries, the layer has {known.dim} inputs"
    wide = columns.double()
    error = (wide.T @ wide - torch.eye(wide.shape[1], dtype=torch.float64)).abs()
    worst = float(error.max()) if error.numel() else 0.0
    return "" if worst <= _ORTHONORMAL else f"its columns are orthonormal only to {worst:.1e}"


def _not_symmetric(matrices: torch.Tensor) -> str:
    """Return what is wrong with ``[..., d, d]`` that should be symmetric, or nothing."""
    if matrices.dim() < 2 or matrices.shape[-1] != matrices.shape[-2]:
        return f"its shape is {list(matrices.shape)}, which is not square"
    largest = float(matrices.abs().max()) if matrices.numel() else 0.0
    worst = float((matrices - matrices.mT).abs().max()) if matrices.numel() else 0.0
    return "" if worst <= _SYMMETRIC * largest else f"it is symmetric only to {worst:.1e}"


def _other_spectrum(sigma: torch.Tensor, covariance: torch.Tensor) -> str:
    """Return how singular values ``[d]`` differ from the roots of a matrix's eigenvalues.

    O(d^3) time.
    """
    if len(sigma) != len(covariance):
        return f"it has {len(sigma)} values, the covariance {len(covariance)} rows"
    roots = torch.linalg.eigvalsh(covariance.double()).clamp(min=0).sqrt()
    least = _SPECTRUM * float(roots.max()) if len(roots) else 0.0
    worst = float((roots - sigma.sort().values).abs().max()) if len(roots) else 0.0
    if worst <= least:
        return ""
    ranks = [int((values > least).sum()) for values in (sigma, roots)]
    return f"it is off that of the covariance by {worst:.1e} (rank {ranks[0]}, not {ranks[1]})"


def _check_update(context: RunContext, method: Method, task: int, found: Verified) -> None:
    """Check that the weights of a task follow from those before, to the bit."""
    way, files = method.recomposition, RunFiles(context)
    if way is None or task == 1 or not files.exists(task, MODEL):
        return
    if not is_recomposable(context, task):
        found.left_out += (f"task {task}: what its weights follow from is not all there",)
        return
    before = load_matrices(context, method, task - 1, files)
    expected = way.step(before, files.read_all(task - 1, way.before), files.read_all(task, way.own))
    for layer, matrix in stored_matrices(method, files.read(task, MODEL)).items():
        if not torch.equal(matrix, expected[layer]):
            path = context.run.task(task).tensors(MODEL)
            problem = "it does not follow from the weights before and the update"
            raise _wrong(path, layer, problem, context, "train", task)
    found.updates += 1


def _has_memory(context: RunContext, method: Method, task: int) -> bool:
    """Return whether what the views of a task read besides its model is there."""
    folders = {t: context.run.task(t) for t in range(1, task + 1)}
    paths = [folders[task].tensors(name) for name in method.reads("evaluate")]
    paths += [
        f.tensors(n) for f in folders.values() for n in method.reads_of_every_task("evaluate")
    ]
    return all(path.exists() for path in paths)


def _check_scores(context: RunContext, method: Method, found: Verified) -> None:
    """Measure every row of accuracies again."""
    state = context.state()
    for task in range(1, state.num_tasks + 1):
        record = state.of(task, "evaluate").record
        names = {"task": "task_incremental", "class": "class_incremental"}
        wanted = tuple(kind for kind, key in names.items() if record.get(key) is not None)
        if not wanted:
            continue
        if not is_at_hand(context, task) or not _has_memory(context, method, task):
            found.left_out += (f"task {task}: what its accuracies are measured with is not kept",)
            continue
        scores = score(context, trained_method(context, task, RunFiles(context)), task, wanted)
        for kind in wanted:
            key = names[kind]
            pairs = zip(record[key], scores[key], strict=True)
            # An accuracy is empty where the images of its task are gone.
            known = ((old, new) for old, new in pairs if None not in (old, new))
            if any(abs(old - new) > _SCORE for old, new in known):
                raise DamagedError(
                    f"{context.run.task(task).record('accuracy')}: {key} is {record[key]},"
                    f" measured again {scores[key]}",
                    f"run: {command(context.run.path, 'evaluate', task)} --force",
                )
        found.rows += 1


def _wrong(
    path: object, key: str, problem: str, context: RunContext, step: str, task: int
) -> DamagedError:
    remedy = f"run: {command(context.run.path, step, task)} --force"
    return DamagedError(f"{path} is damaged: {key}: {problem}", remedy)
