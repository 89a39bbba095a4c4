"""AlexNet's linear layers at a rank above 0.9 d: a projected step beside the original's way.

The original keeps W_prev, U and V apart, forms U V in every forward pass and trains V. Ours trains
the dense weight and projects the rows of its gradient. Forward pass, backward pass and SGD step of
the two layers alone, batch 64, in turn.

    python benchmarks/layers.py --out layers.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from steps import compare, save
from torch import nn

from ness_cli.subspace import factored
from ness_cli.subspace.layer_view import LayerView
from ness_cli.subspace.projected_linear import ProjectedLinear
from ness_cli.subspace.projection import Projector

BATCH = 64
WIDTHS = {"fc1": (1024, 2048), "fc2": (2048, 2048)}


def stepper(dim: int, out: int, rank: int, form: str) -> Callable[[int], float]:
    """Return what makes a number of steps of one layer and tells the seconds they took."""
    torch.manual_seed(1)
    linear = nn.Linear(dim, out, bias=False)
    view = LayerView("fc", linear)
    basis = torch.linalg.qr(torch.randn(dim, dim))[0][:, :rank].contiguous()
    if form == "factored":
        trained = [factored.attach(view, basis)]
    else:
        trained = [linear.weight]
        if form == "projected":
            ProjectedLinear(view, Projector(basis), BATCH)
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, fused=True)
    x, dy = torch.randn(BATCH, dim, requires_grad=True), torch.randn(BATCH, out)

    def seconds(num_steps: int) -> float:
        start = time.perf_counter()
        for _ in range(num_steps):
            optimizer.zero_grad(set_to_none=True)
            linear(x).backward(dy)
            optimizer.step()
        return time.perf_counter() - start

    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=5, help="steps per round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {}
    for fraction in (0.92, 0.98):
        for name, (dim, out) in WIDTHS.items():
            rank = round(fraction * dim)
            sides = {
                form: stepper(dim, out, rank, form) for form in ("factored", "projected", "plain")
            }
            found = compare(sides, "factored", rounds=arguments.rounds, steps=arguments.steps)
            results[f"{name} {dim} x {out}, rank {rank}"] = found
    for title, rows in results.items():
        print(f"{title}, batch {BATCH}, {arguments.threads} threads")
        for name, row in rows.items():
            low, high = row["ratio_quartiles"]
            print(
                f"  {name:10} {row['ms_per_step']:8.2f} ms a step, {row['ratio']:.2f} times the"
                f" original's way ({low:.2f} to {high:.2f})"
            )
    save(arguments.out, results)


if __name__ == "__main__":
    main()
