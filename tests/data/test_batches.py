from __future__ import annotations

import pytest
import torch

from ness_cli.data.batches import Images, fits, validation_batch_size
from ness_cli.data.task_stream import Split


def _split(n=10):
    images = torch.randint(0, 256, (n, 3, 4, 4), dtype=torch.uint8)
    return Split(images, torch.arange(n) % 3)


def _images(split, **more):
    constants = {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}
    return Images(split, task=2, **constants, device=torch.device("cpu"), **more)


@pytest.mark.parametrize("index", [slice(2, 7), torch.tensor([9, 0, 3])])
def test_a_batch_is_normalised_by_channel(index):
    split = _split()
    batch = _images(split).batch(index)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    expected = (split.images[index].double() / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(batch.x.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(batch.y, split.labels[index])
    assert (batch.task, batch.weight, len(batch)) == (2, 1.0, len(batch.y))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("size", [1, 4, 10, 99])
def test_in_order_gives_every_image_once_wherever_they_lie(resident, size):
    split = _split()
    images = _images(split, resident=resident)
    batches = list(images.in_order(size))
    whole = images.batch(slice(0, len(images)))
    assert torch.equal(torch.cat([batch.x for batch in batches]), whole.x)
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)


def test_main_memory_always_holds_what_it_has_read():
    assert fits(_split().images, torch.device("cpu"))


@pytest.mark.parametrize(("free", "expected"), [(960, True), (959, False)])
def test_a_device_takes_images_up_to_half_of_what_is_free(monkeypatch, free, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10**12))
    assert fits(_split().images, torch.device("cuda")) == expected  # 480 bytes


@pytest.mark.parametrize(
    ("num_images", "size"), [(0, 1), (1, 1), (255, 255), (511, 511), (512, 256), (769, 257)]
)
def test_validation_batches_are_even_and_large(num_images, size):
    assert validation_batch_size(num_images) == size
