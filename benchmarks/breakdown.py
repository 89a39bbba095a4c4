"""Where a finetuning step of a network goes: products and convolutions, and everything else.

Torch's profiler counts the time each operator takes itself; the rest is Python between them.

    python benchmarks/breakdown.py --net alexnet
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from steps import NETS, SecondTask, save
from torch.profiler import ProfilerActivity, profile

KINDS = {
    "products and convolutions": ("mm", "convolution", "mkldnn"),
    "random numbers of dropout": ("bernoulli",),
    "pooling": ("pool",),
    "normalisation": ("batch_norm",),
    "optimiser": ("sgd",),
    "elementwise and copies": ("",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, action="append", help="default: all of them")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="where to save the results as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    results = {}
    for net in arguments.net or NETS:
        with tempfile.TemporaryDirectory() as folder:
            stepper = SecondTask(net, ["method.name=finetune"], Path(folder))
        stepper.seconds(3)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            seconds = stepper.seconds(arguments.steps)
        kinds = dict.fromkeys(KINDS, 0.0)
        for event in profiler.key_averages():
            name = event.key.lower()
            kind = next(k for k, parts in KINDS.items() if any(part in name for part in parts))
            kinds[kind] += event.self_cpu_time_total / 1e3 / arguments.steps
        whole = 1e3 * seconds / arguments.steps
        products = kinds["products and convolutions"]
        results[net] = {"ms_per_step": whole, "ms": kinds, "times_products": whole / products}
        print(f"{net}, batch 64, {arguments.threads} threads: {whole:.1f} ms a step,")
        print(f"  {whole / products:.2f} times its products and convolutions")
        for kind, ms in kinds.items():
            print(f"  {kind:28} {ms:8.2f} ms")
    save(arguments.out, results)


if __name__ == "__main__":
    main()
