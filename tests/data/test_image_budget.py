"""All open image sets share one budget, on a device whose memory is simulated."""

from __future__ import annotations

import pytest
import torch

from ness_cli.data.batches import Images
from ness_cli.data.image_budget import ImageBudget
from ness_cli.data.task_stream import Split

GB = 10**9


class Device:
    """A GPU of 8 GB; image sets of a tenth of a GB are told apart by their owners."""

    def __init__(self, monkeypatch, total=8 * GB) -> None:
        self.total, self.used, self.kept = total, 0, 0
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (self.free, total))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: self.used + self.kept)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: self.used)
        self.budget = ImageBudget(torch.device("cuda"))

    @property
    def free(self) -> int:
        return self.total - self.used - self.kept

    def open(self, size: int) -> object | None:
        """Return the owner of a set that got its memory."""
        images, owner = torch.empty(size, dtype=torch.uint8, device="meta"), Owner()
        if not self.budget.take(images, owner):
            return None
        self.used += size
        return owner


class Owner:
    """Something that can be gone."""


def test_a_hundred_sets_leave_half_of_the_device_free(monkeypatch):
    device = Device(monkeypatch)
    owners = [device.open(GB // 10) for _ in range(100)]
    assert sum(owner is not None for owner in owners) == 40
    assert device.free == 4 * GB


@pytest.mark.parametrize(("size", "fits"), [(4 * GB, True), (4 * GB + 1, False)])
def test_one_set_takes_up_to_half_of_what_is_free(monkeypatch, size, fits):
    assert (Device(monkeypatch).open(size) is not None) == fits


def test_a_set_that_is_gone_gives_its_memory_back(monkeypatch):
    device = Device(monkeypatch)
    owner = device.open(4 * GB)
    assert device.open(GB) is None
    del owner
    # torch keeps the memory for the next tensors, so that the device does not see it as free.
    device.used, device.kept = 0, 4 * GB
    assert device.open(4 * GB) is not None


def test_a_network_that_has_grown_leaves_less_for_images(monkeypatch):
    device = Device(monkeypatch)
    device.used = 6 * GB
    assert device.open(GB + 1) is None
    assert device.open(GB) is not None


def test_main_memory_always_holds_what_it_has_read():
    budget = ImageBudget(torch.device("cpu"))
    assert budget.take(torch.empty(10**15, dtype=torch.uint8, device="meta"), Owner())


def test_what_the_budget_refuses_stays_in_main_memory(monkeypatch):
    split = Split(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    more = {"task": 1, "mean": [0.5], "std": [0.5], "device": torch.device("meta")}
    nothing = Device(monkeypatch, total=0).budget
    assert Images(split, **more, budget=nothing).images.device.type == "cpu"
    assert Images(split, **more).images.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_batches_are_the_same_wherever_the_images_lie():
    gpu = torch.device("cuda")
    images = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8)
    split = Split(images, torch.arange(10))
    more = {"task": 1, "mean": [0.5] * 3, "std": [0.5] * 3, "device": gpu}
    budget = ImageBudget(gpu)
    budget._held = 10**15
    away, there = Images(split, **more, budget=budget), Images(split, **more)
    assert (away.images.device.type, there.images.device.type) == ("cpu", "cuda")
    for index in (slice(2, 7), torch.tensor([9, 0, 3]), torch.tensor([9, 0], device=gpu)):
        mine, other = away.batch(index), there.batch(index)
        assert torch.equal(mine.x, other.x)
        assert torch.equal(mine.y, other.y)
