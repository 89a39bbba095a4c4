"""Time of build-subspace by its parts, for AlexNet on real digits of 32 x 32 pixels.

Both ways of summing up inputs run in turn: all layers in one pass, as we do, and a pass for every
layer, as the authors' code does (on the new task's images only, which theirs does not).

    python benchmarks/build.py --images 1000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from steps import save

from ness_cli.console import Progress
from ness_cli.data.batches import Images
from ness_cli.data.store import prepare
from ness_cli.data.task_stream import TaskStream
from ness_cli.nets.build import build_model
from ness_cli.settings.resolve import resolve
from ness_cli.subspace.basis import SubspaceBasis, null_basis
from ness_cli.subspace.covariance import CovarianceAccumulator
from ness_cli.subspace.decomposition import for_each_spectrum
from ness_cli.subspace.layer_view import adapted_layers
from ness_cli.subspace.spectrum import Spectrum
from ness_cli.subspace.threshold import threshold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        preset = Path(folder) / "bench.yaml"
        preset.write_text("data: {num_tasks: 1, size: 32, channels: rgb}\nnet: {name: alexnet}\n")
        settings = resolve(str(preset)).settings
        stream = TaskStream(prepare(settings.stream, Path(folder), Progress()), Path(folder))
        info, split = stream.info(1), stream.split(1, "train")
    images = Images(split, task=1, mean=info.mean, std=info.std, device=torch.device("cpu"))
    torch.manual_seed(1)
    model = build_model(settings.net, settings.norm, stream.image_shape)
    model.add_task(1, 10)
    model.select(1)
    model.eval()
    layers = adapted_layers(model.backbone, None)

    @torch.no_grad()
    def forward() -> None:
        for start in range(0, arguments.images, 500):
            model(images.batch(slice(start, min(start + 500, arguments.images))).x)

    def one_pass() -> None:
        accumulator = CovarianceAccumulator(layers)
        with accumulator.accumulate():
            forward()
        one_pass.covariances = accumulator.covariances()

    def pass_per_layer() -> None:
        for name, layer in layers.items():
            with CovarianceAccumulator({name: layer}).accumulate():
                forward()

    def basis(name: str, found: Spectrum) -> SubspaceBasis:
        return null_basis(found, threshold(found.sigma, rule="nuclear", eps1=1e-3))

    def decompose() -> None:
        cpu = torch.device("cpu")
        for_each_spectrum(one_pass.covariances, basis, lambda work: None, device=cpu)

    parts = {
        "forward pass alone": forward,
        "one pass, all layers": one_pass,
        "a pass per layer": pass_per_layer,
        "decompositions": decompose,
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(arguments.rounds + 1):
        for name, part in parts.items():
            start = time.perf_counter()
            part()
            times[name].append(time.perf_counter() - start)
    print(f"AlexNet, {arguments.images} images, {arguments.threads} threads, median seconds")
    for name, own in times.items():
        print(f"  {name:22} {statistics.median(own[1:]):6.2f}")
    save(arguments.out, {name: statistics.median(own[1:]) for name, own in times.items()})


if __name__ == "__main__":
    main()
