"""Validation in training foretells what evaluation will find, and leaves no trace."""

from __future__ import annotations

import pytest
import torch
from factory import add_task, make_images, make_method, make_settings, make_task

from ness_cli.engine import validation
from ness_cli.engine.score import record_statistics, task_incremental_accuracy
from ness_cli.engine.validation import Validation
from ness_cli.errors import NumericalError
from ness_cli.methods.task import Task


def _learner(*, name="finetune", tasks=1, statistics="task", train=None, valid=None):
    """A method at the beginning of its last task, with weights that classify somehow."""
    settings = make_settings(
        method={"name": name}, net={"batch_norm": True}, norm={"statistics": statistics}
    )
    method = make_method(settings)
    for task_number in range(1, tasks + 1):
        add_task(method, task_number)
        task = make_task(task_number, past=name == "joint")
        method.begin_task(task)
    task = Task(
        tasks,
        task.num_classes,
        train or task.train,
        valid or task.valid,
        task.past,
        tuple(make_images(t, 5 + t, seed=1) for t in range(1, tasks)),
    )
    with torch.no_grad():
        for parameter in method.model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return method, task


def _score(method, task, batch_size=16):
    return Validation(method, task, seed=1, batch_size=batch_size).score("epoch 1")


@pytest.mark.parametrize("num_valid", [1, 2, 6])
def test_it_is_what_evaluation_finds_with_the_tasks_own_statistics(num_valid):
    """All training images fit into one batch of the sample, as into one of the recorded ones."""
    method, task = _learner(train=make_images(1, 200), valid=make_images(1, num_valid, seed=1))
    found = _score(method, task)
    record_statistics(method, [task.train])
    assert found.accuracy == task_incremental_accuracy(method, task.valid, 500, lambda _: None)
    with torch.no_grad(), method.task_view(1) as model:
        outputs = model(task.valid.batch(slice(None)).x)
    expected = torch.nn.functional.cross_entropy(outputs.double(), task.valid.labels)
    assert found.loss == pytest.approx(float(expected), rel=1e-5)


def test_one_image_scores_the_same_alone_and_among_others():
    method, task = _learner(valid=make_images(1, 12, seed=1))
    together = _score(method, task)
    losses = []
    for index in range(12):
        own = make_images(1, 12, seed=1)
        own.images, own.labels = own.images[index : index + 1], own.labels[index : index + 1]
        losses.append(_score(method, Task(1, 3, task.train, own)).loss)
    assert sum(losses) / 12 == pytest.approx(together.loss, rel=1e-5)


def test_it_leaves_weights_statistics_and_random_numbers_as_they_were():
    method, task = _learner(name="joint", tasks=2)
    record_statistics(method, [task.past[0]])
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    assert "backbone.norm1.mean.1" in before
    random, selected = torch.get_rng_state(), method.model.task
    _score(method, task)
    after = method.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert method.model.task == selected


@pytest.mark.parametrize(
    ("num_images", "size"), [(20, 20), (500, 500), (4000, 500), (12_000, 1200), (50_000, 2000)]
)
def test_the_sample_is_a_fixed_share_of_the_training_images(num_images, size):
    images = make_images(1, num_images, (1, 1, 1))
    samples = [validation._sample(images, seed) for seed in (1, 1, 2)]
    assert torch.equal(*samples[:2])
    assert [len(sample.unique()) for sample in samples] == [size] * 3
    assert torch.equal(samples[0], samples[2]) == (num_images == size)


def test_statistics_come_from_large_and_even_batches():
    method, task = _learner(train=make_images(1, 6000))
    sizes = []
    handle = method.model.backbone.norm1.register_forward_pre_hook(
        lambda _module, args: sizes.append(len(args[0]))
    )
    _score(method, task)
    handle.remove()
    assert sizes == [300, 300, 6]  # and the validation images


def test_statistics_of_the_batch_stay_those_of_the_batch():
    method, task = _learner(statistics="batch", valid=make_images(1, 12, seed=1))
    found = _score(method, task, batch_size=4)
    with torch.no_grad(), method.task_view(1) as model:
        outputs = torch.cat([model(batch.x) for batch in task.valid.in_order(4)])
    assert found.accuracy == float((outputs.argmax(1) == task.valid.labels).double().mean())


def test_joint_training_validates_on_every_task_weighted_by_images():
    method, task = _learner(name="joint", tasks=3)
    found = _score(method, task)
    scores = []
    for number, (train, valid) in enumerate(
        zip([*task.past, task.train], [*task.past_valid, task.valid], strict=True), start=1
    ):
        alone, own = make_method(make_settings(net={"batch_norm": True})), Task(number, 3, train)
        for each in range(1, 4):
            add_task(alone, each)
        alone.model.load_state_dict(method.model.state_dict())
        scores.append((len(valid), _score(alone, Task(number, 3, own.train, valid))))
    total = sum(n for n, _ in scores)
    assert [n for n, _ in scores] == [6, 7, 6]
    expected = sum(n * score.accuracy for n, score in scores) / total
    assert found.accuracy == pytest.approx(expected, rel=1e-12)
    assert found.loss == pytest.approx(sum(n * s.loss for n, s in scores) / total, rel=1e-12)


def test_other_methods_validate_on_the_task_at_hand():
    method, task = _learner(name="finetune", tasks=2)
    assert method.validation_sets(task) == [task.valid]
    assert method.validation_sets(Task(2, 3, task.train)) == []


def test_a_loss_that_is_not_finite_names_the_layer():
    method, task = _learner()
    with torch.no_grad():
        method.model.backbone.fc2.weight.fill_(float("nan"))
    with pytest.raises(NumericalError, match=r"layer fc2: its output became NaN .* at epoch 1"):
        _score(method, task)
