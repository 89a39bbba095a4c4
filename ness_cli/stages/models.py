"""The model after any task of a run, from its file or put together from updates."""

from __future__ import annotations

from ness_cli import seeding
from ness_cli.errors import InputError
from ness_cli.methods.base import Tensors
from ness_cli.nets.build import build_model
from ness_cli.nets.multi_head import MultiHead, load_tasks
from ness_cli.nets.pretrained import Pretrained
from ness_cli.run_state import command
from ness_cli.stages.context import RunContext
from ness_cli.subspace.basis import read_bases
from ness_cli.subspace.layer_view import adapted_layers, join, split


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
    found = context.about.get("pretrained")
    return None if found is None else Pretrained(**found).read(context.place.cache)


def load_model(context: RunContext, task: int, inputs: dict[str, str]) -> MultiHead:
    """Return the network as it was after ``task``, on the run's device.

    Args:
        context: The run.
        task: Number of the task.
        inputs: Takes the hashes of the files that were read.

    Raises:
        InputError: If neither the model nor what it can be put together from is there.
        DamagedError: If a file does not read back.
    """
    if context.run.task(task).tensors("model").exists() or not is_recomposable(context, task):
        tensors = context.read(task, "model", "train", inputs)
    else:
        tensors = recompose_model(context, task, inputs)
    model = new_model(context)
    load_tasks(model, tensors, [context.stream.info(t).num_classes for t in range(1, task + 1)])
    model.to(context.device)
    model.select(task)
    return model


def is_at_hand(context: RunContext, task: int) -> bool:
    """Return whether the model after ``task`` is stored, or can be put together."""
    return context.run.task(task).tensors("model").exists() or is_recomposable(context, task)


def is_recomposable(context: RunContext, task: int) -> bool:
    """Return whether updates and bases of all tasks up to ``task`` are there."""
    files = [context.run.task(1).tensors("model")]
    for number in range(2, task + 1):
        files.append(context.run.task(number).tensors("update"))
        files.append(context.run.task(number - 1).tensors("basis"))
    return all(path.exists() for path in files)


def recompose_model(context: RunContext, task: int, inputs: dict[str, str]) -> Tensors:
    """Return the state dict of the model after ``task``: W_t = W_1 + sum of (S V)^T.

    The confined weights come from model 1, the updates and the bases; heads and normalisation
    state, which no later task changes, from the newest model that is stored.

    Raises:
        InputError: If no later model is stored.
        DamagedError: If a file does not read back.
    """
    run, num_tasks = context.run, context.stream.num_tasks
    newest = next(
        (t for t in range(num_tasks, 0, -1) if run.task(t).tensors("model").exists()), None
    )
    if newest is None or newest < task:
        path = run.task(task).tensors("model")
        raise InputError(f"{path} is missing", f"run: {command(run.path, 'train', task)} --force")
    # Not one of the inputs: a step must not depend on what a later task's steps wrote. It adds
    # heads and normalisation of tasks up to this one, which are the same in every later model.
    tensors = context.read(newest, "model", "train", {})
    first = context.read(1, "model", "train", inputs)

    model = new_model(context)
    head = None
    if model.shared_head:
        model.add_task(1, context.stream.info(1).num_classes)
        head = model.head(1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    views = adapted_layers(
        model.backbone, head, patterns=model.adapt, augment_bias=model.augments_bias
    )
    keys = {
        layer: {part: names[id(parameter)] for part, parameter in view.parameters.items()}
        for layer, view in views.items()
    }
    matrices = {
        layer: join({part: first[key] for part, key in parts.items()})
        for layer, parts in keys.items()
    }
    for number in range(2, task + 1):
        bases = read_bases(context.read(number - 1, "basis", "build", inputs))
        update = context.read(number, "update", "train", inputs)
        for layer, matrix in matrices.items():
            matrices[layer] = bases[layer].recompose(matrix, update[f"{layer}.V"])
    for layer, parts in keys.items():
        parameters = split(matrices[layer], views[layer].parameters)
        tensors.update({key: parameters[part] for part, key in parts.items()})
    return {key: value for key, value in tensors.items() if _owner(key) <= task}


def _owner(key: str) -> int:
    """Return the task that a tensor of a model belongs to, 0 for none."""
    parts = key.split(".")
    if parts[0] == "heads":
        part = parts[1]
    else:
        part = parts[-1] if parts[-2] in ("scale", "shift", "mean", "variance") else ""
    return int(part) if part.isdigit() else 0


def state_dict(model: MultiHead) -> Tensors:
    """Return the model's tensors on the CPU, each contiguous."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}


def add_head(context: RunContext, model: MultiHead, task: int) -> None:
    """Give the model a head for ``task``, drawn from an address of its own."""
    seeding.seed_default(context.settings.seed, "head", task)
    model.add_task(task, context.stream.info(task).num_classes)
    model.select(task)
