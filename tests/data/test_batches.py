from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ness_cli.data.batches import Images, cut, validation_batch_size
from ness_cli.data.task_stream import Split

CPU = torch.device("cpu")


def _split(n=10):
    images = torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8)
    return Split(images, torch.arange(n) % 3)


def _images(split, device=CPU, **more):
    constants = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    return Images(split, task=2, **constants, device=device, **more)


class _NoRoom:
    """A budget that lets no image lie on the device."""

    def take(self, images, owner):
        return False


@pytest.mark.parametrize("index", [slice(2, 7), torch.tensor([9, 0, 3])])
def test_a_batch_is_normalised_by_channel(index):
    split = _split()
    batch = _images(split).batch(index)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    expected = (split.images[index].double() / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(batch.x.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(batch.y, split.labels[index])
    assert (batch.task, batch.weight, len(batch)) == (2, 1.0, len(batch.y))


def test_a_subset_is_some_of_the_images_as_they_are_stored():
    split = _split()
    images = _images(split)
    positions = torch.tensor([9, 0, 3, 0])
    subset = images.subset(positions)
    assert (len(subset), subset.task, subset.images.dtype) == (4, 2, torch.uint8)
    assert torch.equal(subset.images, split.images[positions])
    assert torch.equal(subset.batch(slice(0, 4)).x, images.batch(positions).x)
    assert torch.equal(subset.batch(torch.tensor([3, 1])).y, split.labels[[0, 0]])
    subset.images.zero_()
    subset.labels.zero_()
    assert torch.equal(images.images, split.images)
    assert torch.equal(images.labels, torch.arange(10) % 3)
    assert len(images) == 10


@pytest.mark.parametrize(("budget", "expected"), [(None, "meta"), (_NoRoom(), "cpu")])
def test_a_subset_lies_where_the_images_lie(budget, expected):
    images = _images(_split(), device=torch.device("meta"), budget=budget)
    subset = images.subset(torch.tensor([3, 1]))
    assert (subset.images.device.type, subset.labels.device.type) == (expected, "meta")


@pytest.mark.parametrize("size", [1, 4, 10, 99])
def test_in_order_gives_every_image_once(size):
    images = _images(_split())
    batches = list(images.in_order(size))
    whole = images.batch(slice(0, len(images)))
    assert torch.equal(torch.cat([batch.x for batch in batches]), whole.x)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)


class _Copies(TorchDispatchMode):
    """Counts copies of positions, which are the only whole numbers that are copied."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._to_copy.default and args[0].dtype == torch.int64:
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("device", "positions", "expected"),
    [("cpu", "cpu", 0), ("meta", "cpu", 1), ("meta", "meta", 0)],
)
def test_positions_are_copied_once_at_most(device, positions, expected):
    # Nothing is computed on the device meta, but tensors move to it as they do to a GPU.
    images = _images(_split(), device=torch.device(device))
    index = torch.tensor([3, 1], device=positions)
    with _Copies() as copies:
        images.batch(index)
    assert copies.count == expected


@pytest.mark.parametrize(
    ("num_images", "size"), [(0, 1), (1, 1), (255, 255), (511, 511), (512, 256), (769, 257)]
)
def test_validation_batches_are_even_and_large(num_images, size):
    assert validation_batch_size(num_images) == size


@pytest.mark.parametrize(
    ("num_images", "size", "smallest", "sizes"),
    [
        (0, 4, 1, []),
        (3, 4, 2, [3]),
        (1, 4, 2, [1]),
        (8, 4, 2, [4, 4]),
        (9, 4, 1, [4, 4, 1]),
        (9, 4, 2, [4, 3, 2]),
        (10, 4, 2, [4, 4, 2]),
        (3, 2, 2, [3]),
        (4, 3, 2, [2, 2]),
        (1005, 500, 250, [500, 253, 252]),
        (1250, 500, 250, [500, 500, 250]),
    ],
)
def test_no_batch_is_smaller_than_asked_for_unless_there_is_no_more(
    num_images, size, smallest, sizes
):
    pieces = cut(num_images, size, smallest)
    assert [piece.stop - piece.start for piece in pieces] == sizes
    assert [i for piece in pieces for i in range(num_images)[piece]] == list(range(num_images))
