from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from factory import (
    add_task,
    begin_with_stored_images,
    make_images,
    make_method,
    make_settings,
    make_task,
    make_train_step,
)
from torch.nn import functional

from ness_cli.engine.score import record_statistics
from ness_cli.engine.stepper import Stepper
from ness_cli.methods.step import StepProgress
from ness_cli.methods.task import HEAD, Phase
from ness_cli.processes import Processes


def _method(train=None, net=None, norm=None, **options):
    settings = make_settings(
        method={"name": "er"},
        train={"momentum": 0.0, **(train or {})},
        net=net or {},
        norm=norm or {},
        methods={"er": options},
    )
    return make_method(settings)


def _positions(batch):
    """Return where in their task the images of a batch are."""
    source = make_images(batch.task)
    x = source.batch(slice(0, len(source))).x
    return [int((x == one).flatten(1).all(dim=1).nonzero()[0]) for one in batch.x]


@pytest.mark.parametrize("mix_tasks", [False, True])
def test_a_steps_gradient_is_that_of_the_weighted_mean_loss_in_float64(mix_tasks):
    method = _method(replay_batch=10, replay_weight=0.3, mix_tasks=mix_tasks)
    task = begin_with_stored_images(method, 4)
    step = make_train_step(method, task.train, slice(0, 8))
    loss = method.gradients(step)
    batches = method.replayed(step, 10, is_mixed=mix_tasks)
    assert sum(map(len, batches)) == 10
    assert (len(batches) > 1) == mix_tasks
    found = {n: p.grad for n, p in method.model.named_parameters() if p.grad is not None}

    model = method.model.double()

    def mean_loss(task_number, positions):
        model.select(task_number)
        batch = make_images(task_number).batch(torch.tensor(positions))
        return functional.cross_entropy(model(batch.x.double()), batch.y, reduction="sum")

    old = sum(mean_loss(batch.task, _positions(batch)) for batch in batches) / 10
    expected = 0.7 * mean_loss(4, range(8)) / 8 + 0.3 * old
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    parameters = {n: p for n, p in model.named_parameters() if n in found}
    gradients = torch.autograd.grad(expected, list(parameters.values()))
    for name, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(found[name].double(), gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert {f"heads.{batch.task}.weight" for batch in batches} < set(found)


@pytest.mark.parametrize("num_processes", [2, 5])
def test_processes_together_replay_the_mean_over_all_stored_images(num_processes):
    """Of 8 images, 3 and 5 of two tasks: some batches are divided, some too small for it."""
    expected, found = {}, {}
    for rank in range(-1, num_processes):
        method = _method(memory=8, replay_batch=8, mix_tasks=True)
        task = begin_with_stored_images(method, 2)
        add_task(method, 3)
        task = make_task(3)
        method._memory._exemplars[1] = method._memory._exemplars[1].at(torch.arange(3))
        method.consolidate(make_task(2, n=5), lambda _: None)
        method.begin_task(task)
        processes = Processes() if rank < 0 else Processes(rank, num_processes)

        def part(images, positions, processes=processes):
            own, weight = processes.shard(positions)
            return replace(images.batch(own), weight=weight)

        step = replace(make_train_step(method, task.train), make_batch=part)
        assert method.replayed(step, 8, is_mixed=True)
        assert sorted(method._replayed[2]) == [3, 5]
        method.replay(step)
        for name, p in method.model.named_parameters():
            if p.grad is not None:
                sums = expected if rank < 0 else found
                sums[name] = sums.get(name, 0) + p.grad.double()
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7)


def test_what_is_drawn_depends_on_seed_task_and_step_alone():
    def drawn(num_done, seed=1):
        method = _method()
        method.seed = seed
        task = begin_with_stored_images(method, 3)
        torch.rand(num_done + seed)  # what was drawn before does not matter
        step = make_train_step(method, task.train)
        step = type(step)(**{**vars(step), "progress": StepProgress(0, num_done, 9, 1)})
        batches = method.replayed(step, 6, is_mixed=True)
        assert method.replayed(step, 6, is_mixed=True) is batches  # as SAM asks
        return [(batch.task, place) for batch in batches for place in _positions(batch)]

    assert drawn(0) == drawn(0)
    assert len({tuple(drawn(step)) for step in range(5)}) == 5
    assert drawn(0, seed=2) != drawn(0)


def test_tasks_are_drawn_by_how_many_images_they_have():
    method = _method()
    task = begin_with_stored_images(method, 3)
    method._memory._exemplars[1] = method._memory._exemplars[1].at(torch.arange(6))
    method.begin_task(task)
    counts = {1: 0, 2: 0}
    for number in range(400):
        step = make_train_step(method, task.train, slice(0, 1))
        step = type(step)(**{**vars(step), "progress": StepProgress(0, number, 400, 1)})
        (batch,) = method.replayed(step, 3, is_mixed=False)
        counts[batch.task] += 1
    # 6 against 24 images: 80 of 400, five standard deviations are 40.
    assert abs(counts[1] - 80) < 40


def test_stored_images_are_augmented_and_mixed_as_the_batch_is():
    train = {"augment": [{"RandomInvert": {"p": 1.0}}], "mixup": 0.5}
    method = _method(train=train)
    task = begin_with_stored_images(method, 2)
    stepper = Stepper(method, task)
    batch = stepper._batch(method._stored[0], torch.arange(8))
    plain = method._stored[0].batch(torch.arange(8)).x
    assert batch.partner_y is not None
    torch.manual_seed(3)
    stepper.step(task.train, torch.arange(8), StepProgress(0, 0, 1, 1))
    (replayed,) = method._replayed[1]
    assert replayed.partner_y is not None
    # Pixel 0 is black in all images, and white once inverted; its mixtures are white too.
    assert torch.all(replayed.x[..., 0] > 0)
    assert torch.all(plain[..., 0] < 0)


def test_nothing_is_replayed_while_a_head_learns_alone_and_in_the_first_task():
    method = _method(train={"head_epochs": 1})
    task = begin_with_stored_images(method, 1)
    assert method.replayed(make_train_step(method, task.train), 8, is_mixed=False) == []
    method = _method(train={"head_epochs": 1})
    task = begin_with_stored_images(method, 2)
    method.begin_phase(task, Phase(HEAD, 1))
    assert method.replayed(make_train_step(method, task.train), 8, is_mixed=False) == []
    method.begin_phase(task, Phase("train", 1))
    assert method.replayed(make_train_step(method, task.train), 8, is_mixed=False)


def test_an_image_that_would_be_normalised_by_itself_is_left_out():
    for batch_norm in (False, True):
        method = _method(net={"batch_norm": batch_norm}, mix_tasks=True)
        task = begin_with_stored_images(method, 4)
        sizes = set()
        for number in range(20):
            step = make_train_step(method, task.train, slice(0, 2))
            step = type(step)(**{**vars(step), "progress": StepProgress(0, number, 20, 1)})
            sizes |= {len(batch) for batch in method.replayed(step, 4, is_mixed=True)}
        assert (1 in sizes) != batch_norm


def test_old_statistics_are_those_of_stored_images_under_the_new_weights():
    method = _method(net={"batch_norm": True})
    task = begin_with_stored_images(method, 2)
    with torch.no_grad():
        method.model.backbone.fc1.weight.mul_(-2)
    method.end_task(task)
    record_statistics(method, method.statistics_sets(task))
    rows = make_images(1).batch(slice(0, 24)).x.flatten(1).double()
    inputs = rows @ method.model.backbone.fc1.weight.double().T
    mean, variance = method.model.norms()[0].statistics_of(1)
    torch.testing.assert_close(mean.double(), inputs.mean(dim=0), rtol=1e-4, atol=1e-5)
    expected = inputs.var(dim=0, correction=0)
    torch.testing.assert_close(variance.double(), expected, rtol=1e-4, atol=1e-5)


def test_tiny_tasks_and_tiny_memories_are_no_error():
    method = _method(memory=1, replay_batch=3)
    for task_number in (1, 2, 3):
        add_task(method, task_number)
        task = make_task(task_number, n=1)
        method.begin_task(task)
        Stepper(method, task).step(task.train, torch.arange(1), StepProgress(0, 0, 1, 1))
        method.end_task(task)
        method.consolidate(task, lambda _: None)
    assert all(torch.isfinite(p).all() for p in method.model.parameters())
    (stored,) = method._memory.sets(torch.device("cpu"))
    assert len(stored) == 1
