from __future__ import annotations

from collections import Counter

import pytest
import torch
from factory import make_images

from ness_cli.data.batches import Images
from ness_cli.data.episodic_memory import EpisodicMemory, ranks_in_class
from ness_cli.data.task_stream import Split


def _generator(task):
    return torch.Generator().manual_seed(task)


def _filled(*counts, **options):
    memory = EpisodicMemory(**options)
    for task, count in enumerate(counts, start=1):
        memory.add(make_images(task, count), _generator(task))
    return memory


def _priorities(*counts):
    return [
        torch.rand(count, generator=_generator(task), dtype=torch.float64).tolist()
        for task, count in enumerate(counts, start=1)
    ]


def _stored(memory):
    """Return (task, position in the task) of what is stored, by comparing images."""
    found = set()
    for images in memory.sets(torch.device("cpu")):
        source = make_images(images.task, 60)
        for image, label in zip(images.images, images.labels, strict=True):
            (position,) = (source.images == image).flatten(1).all(dim=1).nonzero()[:, 0].tolist()
            assert label == source.labels[position]
            found.add((images.task, position))
    return found


def _balanced_by_hand(counts, capacity, per_class=None):
    """Deal places to classes in turn, the smallest priority of a class first, while any are left.

    Where the last round does not reach all classes, smaller priorities go first.
    """
    queues = {}
    for task, drawn in enumerate(_priorities(*counts), start=1):
        for position, priority in enumerate(drawn):
            queues.setdefault((task, position % 3), []).append((priority, (task, position)))
    queues = [sorted(queue)[:per_class] for queue in queues.values()]
    kept = set()
    while any(queues) and len(kept) < capacity:
        heads = sorted(queue.pop(0) for queue in queues if queue)
        kept |= {place for _, place in heads[: capacity - len(kept)]}
    return kept


COUNTS = (60, 4, 60, 1)


@pytest.mark.parametrize("capacity", [1, 2, 10, 29, 500])
@pytest.mark.parametrize("per_class", [None, 1, 3])
def test_a_balanced_memory_deals_its_places_to_classes_in_turn(capacity, per_class):
    memory = _filled(*COUNTS, capacity=capacity, per_class=per_class)
    assert _stored(memory) == _balanced_by_hand(COUNTS, capacity, per_class)


@pytest.mark.parametrize("capacity", [1, 10, 500])
def test_a_reservoir_keeps_the_smallest_priorities_of_all(capacity):
    memory = _filled(*COUNTS, capacity=capacity, is_balanced=False)
    every = sorted(
        (priority, (task, position))
        for task, drawn in enumerate(_priorities(*COUNTS), start=1)
        for position, priority in enumerate(drawn)
    )
    assert _stored(memory) == {place for _, place in every[:capacity]}


def test_a_reservoir_is_a_uniform_sample_of_all_tasks():
    counts = Counter()
    for seed in range(300):
        memory = EpisodicMemory(6, is_balanced=False)
        for task in (1, 2, 3):
            memory.add(make_images(task, 12 * task), _generator(1000 * seed + task))
        for images in memory.sets(torch.device("cpu")):
            counts[images.task] += len(images)
    # 1800 draws with probabilities 1/6, 2/6, 3/6: five standard deviations are about 100.
    assert sum(counts.values()) == 1800
    for task, expected in ((1, 300), (2, 600), (3, 900)):
        assert abs(counts[task] - expected) < 100


def test_what_is_stored_is_as_prepared_and_comes_back_with_its_bits():
    memory = _filled(60, 30, capacity=10)
    tensors = memory.tensors()
    assert tensors["images.1"].dtype == torch.uint8
    assert {name.split(".")[0] for name in tensors} == {
        *("images", "labels", "priorities", "constants")
    }
    again = EpisodicMemory(10)
    again.load(tensors)
    assert _stored(again) == _stored(memory)
    again.add(make_images(3, 60), _generator(3))
    memory.add(make_images(3, 60), _generator(3))
    assert _stored(memory) == _stored(again)


def test_batches_are_normalised_with_the_bits_of_the_tasks_own_constants():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, 4, 4), generator=generator, dtype=torch.uint8)
    constants = {"mean": [0.1234567890123, 0.4, 0.7], "std": [0.3, 1 / 3, 0.2]}
    split = Split(images, torch.arange(12) % 3)
    source = Images(split, task=4, **constants, device=torch.device("cpu"))
    memory = EpisodicMemory(12)
    memory.add(source, _generator(4))
    (stored,) = memory.sets(torch.device("cpu"))
    everything = slice(0, 12)
    assert torch.equal(stored.batch(everything).x, source.batch(everything).x)
    assert stored.task == 4


def test_its_size_is_at_most_what_it_says():
    memory = _filled(*COUNTS, capacity=29)
    size = sum(t.numel() * t.element_size() for t in memory.tensors().values())
    assert size == memory.num_bytes(16, 1, 4)
    assert sum(len(images) for images in memory.sets(torch.device("cpu"))) == 29


def test_ranks_count_within_classes():
    labels = torch.tensor([0, 1, 0, 0, 1])
    priorities = torch.tensor([0.5, 0.2, 0.9, 0.1, 0.1], dtype=torch.float64)
    assert ranks_in_class(labels, priorities).tolist() == [1, 1, 2, 0, 0]
