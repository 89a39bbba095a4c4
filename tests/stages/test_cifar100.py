"""Facts that need no training, on real CIFAR-100: conv1 sees raw pixels, so its spectrum is fixed.

Needs the folder of images that NESS_TEST_IMAGES names (cifar100-part0.zip).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from ness_cli.console import Progress
from ness_cli.data.batches import Images
from ness_cli.data.store import prepare
from ness_cli.data.task_stream import TaskStream
from ness_cli.settings.resolve import resolve
from ness_cli.subspace.basis import null_basis
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.layer_view import adapted_layers
from ness_cli.subspace.spectrum import spectrum
from ness_cli.subspace.threshold import threshold

PART = Path(os.environ.get("NESS_TEST_IMAGES", "/nowhere")) / "cifar100-part0.zip"
pytestmark = pytest.mark.skipif(
    not PART.exists(), reason="NESS_TEST_IMAGES names no folder with cifar100-part0.zip"
)


@pytest.fixture(scope="module")
def conv1(tmp_path_factory):
    changes = [f"data.path={PART}", "data.num_tasks=1", "data.source=image-folder"]
    settings = resolve("cifar100-alexnet-quick", changes).settings
    cache = tmp_path_factory.mktemp("cifar")
    stream = TaskStream(prepare(settings.data, cache, Progress()), cache, remedy="")
    assert stream.info(1).classes[:3] == ("apple", "aquarium_fish", "baby")
    images = Images(
        stream.split(1, "train"),
        task=1,
        mean=stream.info(1).mean,
        std=stream.info(1).std,
        device=torch.device("cpu"),
    )
    assert len(images) == 4750
    net = nn.Sequential(nn.Conv2d(3, 1, 4, bias=False))
    accumulator = CovarianceAccumulator(adapted_layers(net, None))
    with torch.no_grad(), accumulator.accumulate():
        for batch in images.in_order(500):
            net(batch.x)
    return spectrum(accumulator.covariances()["0"], layer="conv1")


def test_the_spectrum_of_conv1_has_its_known_ends(conv1):
    eigenvalues = conv1.sigma.square()
    assert float(eigenvalues[-1]) == pytest.approx(1.51e8, rel=0.01)
    assert float(eigenvalues[0]) == pytest.approx(6.3e2, rel=0.02)
    ratio = float(conv1.sigma.sum() / eigenvalues.sum().sqrt())
    assert ratio == pytest.approx(2.93, abs=0.01)


@pytest.mark.parametrize(
    ("rule", "eps1", "rank"),
    [
        ("nuclear", 1e-2, 29),
        ("nuclear", 1e-3, 3),
        ("nuclear", 5e-4, 0),
        ("frobenius", 1e-2, 16),
        ("frobenius", 1e-3, 0),
        ("frobenius", 5e-4, 0),
    ],
)
def test_conv1_has_the_known_ranks(conv1, rule, eps1, rank):
    assert null_basis(conv1, threshold(conv1.sigma, rule=rule, eps1=eps1)).rank == rank
