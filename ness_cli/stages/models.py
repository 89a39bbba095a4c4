"""The model after any task of a run, from its file or put together from updates."""

from __future__ import annotations

from collections.abc import Mapping

from ness_cli import seeding
from ness_cli.errors import InputError
from ness_cli.methods.base import Method
from ness_cli.methods.files import Tensors
from ness_cli.nets.build import build_model
from ness_cli.nets.multi_head import MultiHead, add_saved_tasks, load_tasks
from ness_cli.nets.pretrained import Pretrained
from ness_cli.run_state import command
from ness_cli.stages.context import RunContext
from ness_cli.stages.run_files import RunFiles
from ness_cli.subspace.layer_view import join, split

MODEL = "model"
"""Name of the file with a task's network."""


def new_model(context: RunContext, weights: Tensors | None = None) -> MultiHead:
    """Return the untrained network of a run, without heads.

    The seed decides its weights, unless it starts from pretrained ones.
    """
    settings = context.settings
    seeding.seed_default(settings.seed, "network")
    return build_model(settings.net, settings.norm, context.stream.image_shape, weights)


def pretrained_weights(context: RunContext) -> Tensors | None:
    """Return the weights that task 1 starts from, if the run asked for any.

    Raises:
        InputError: If they are gone from the cache.
        DamagedError: If they are not what was put there.
    """
    found = context.run_record.get("pretrained")
    return None if found is None else Pretrained(**found).read(context.workplace.cache)


def load_model(context: RunContext, task: int, files: RunFiles) -> MultiHead:
    """Return the network as it was after ``task``, on the run's device.

    Args:
        context: The run.
        task: Number of the task.
        files: Reads what it is made from.

    Raises:
        InputError: If neither the model nor what it can be put together from is there.
        DamagedError: If a file does not read back.
    """
    if files.exists(task, MODEL) or not is_recomposable(context, task):
        tensors = files.read(task, MODEL)
    else:
        tensors = recompose_model(context, task, files)
    model = new_model(context)
    load_tasks(model, tensors, _num_classes(context, task))
    model.to(context.device)
    model.select(task)
    return model


def _num_classes(context: RunContext, task: int) -> list[int]:
    """Return the classes of every task up to one."""
    return [context.stream.num_classes(task_number) for task_number in range(1, task + 1)]


def is_at_hand(context: RunContext, task: int) -> bool:
    """Return whether the model after ``task`` is stored, or can be put together."""
    return context.run.has(task, MODEL) or is_recomposable(context, task)


def is_recomposable(context: RunContext, task: int) -> bool:
    """Return whether the files that the models up to ``task`` follow from are there."""
    way = context.method_kind.recomposition
    if way is None:
        return False
    files = [(1, MODEL)]
    for task_number in range(2, task + 1):
        files += [(task_number - 1, name) for name in way.before]
        files += [(task_number, name) for name in way.own]
    return all(context.run.has(*file) for file in files)


def recompose_model(context: RunContext, task: int, files: RunFiles) -> Tensors:
    """Return the state dict of the model after ``task``, put together from that after task 1.

    The adapted weights follow from one task to the next as the method says; heads and normalisation
    state, which no later task changes, come from the newest model that is stored.

    Raises:
        InputError: If no later model is stored.
        DamagedError: If a file does not read back.
    """
    way = context.method_kind.recomposition
    stored = (t for t in range(context.stream.num_tasks, task - 1, -1) if files.exists(t, MODEL))
    newest = next(stored, None)
    if way is None or newest is None:
        run = context.run
        path = run.task(task).tensors(MODEL)
        raise InputError(f"{path} is missing", f"run: {command(run.path, 'train', task)} --force")
    # Not one of the inputs: a step must not depend on what a later task's steps wrote. It adds
    # heads and normalisation of tasks up to this one, which are the same in every later model.
    later = files.read(newest, MODEL, is_input=False)
    model = new_model(context)
    add_saved_tasks(model, later, _num_classes(context, task))
    tensors = {name: later[name] for name in model.state_dict()}

    method = context.method(model)
    views, keys = method.layers, _keys(method)
    matrices = _matrices(keys, files.read(1, MODEL))
    for task_number in range(2, task + 1):
        before = files.read_all(task_number - 1, way.before)
        matrices = way.step(matrices, before, files.read_all(task_number, way.own))
    for layer, parts in keys.items():
        parameters = split(matrices[layer], views[layer].parameters)
        tensors.update({key: parameters[part] for part, key in parts.items()})
    return tensors


def load_matrices(
    context: RunContext, method: Method, task_number: int, files: RunFiles
) -> Tensors:
    """Return the matrix ``[out, d]`` of every adapted layer after a task, on the CPU.

    Without building a network where the model is stored.

    Args:
        context: The run.
        method: Its method, around any of its models.
        task_number: Number of the task.
        files: Reads what they are made from.

    Raises:
        InputError: If neither the model nor what it can be put together from is there.
        DamagedError: If a file does not read back.
    """
    keys = _keys(method)
    if files.exists(task_number, MODEL) or not is_recomposable(context, task_number):
        wanted = {key for parts in keys.values() for key in parts.values()}
        return _matrices(keys, files.read(task_number, MODEL, tensors=wanted))
    return _matrices(keys, recompose_model(context, task_number, files))


def stored_matrices(method: Method, tensors: Tensors) -> Tensors:
    """Return the matrix ``[out, d]`` of every adapted layer in the state dict of a model."""
    return _matrices(_keys(method), tensors)


def _keys(method: Method) -> dict[str, dict[str, str]]:
    """Return the names in a model's file of the parameters that make up every layer's matrix."""
    names = {parameter: name for name, parameter in method.model.named_parameters()}
    return {
        layer: {part: names[parameter] for part, parameter in view.parameters.items()}
        for layer, view in method.layers.items()
    }


def _matrices(keys: Mapping[str, Mapping[str, str]], tensors: Tensors) -> Tensors:
    return {
        layer: join({part: tensors[key] for part, key in parts.items()})
        for layer, parts in keys.items()
    }


def state_dict(model: MultiHead) -> Tensors:
    """Return the model's tensors on the CPU, each contiguous."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def add_head(context: RunContext, model: MultiHead, task: int) -> None:
    """Give the model a head for ``task``, drawn from an address of its own."""
    seeding.seed_default(context.settings.seed, "head", task)
    model.add_task(task, context.stream.num_classes(task))
    model.select(task)
