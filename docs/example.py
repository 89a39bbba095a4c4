"""Train on a folder of images, add classes, recognise an image, and draw a spectrum.

    python docs/example.py leaves may new.png [key=value ...]

``leaves`` and ``may`` are folders of images with ``train/CLASS/*`` and ``test/CLASS/*``; the
settings hold for both. The run and ``spectrum.png`` are made in ``runs/example``.
"""

import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from safetensors.torch import load_file

import ness_cli


def ness(*arguments):
    """Run a command as a shell would."""
    subprocess.run([sys.executable, "-m", "ness_cli", *map(str, arguments)], check=True)


def draw_spectrum(basis_file, picture):
    """Draw the singular values of every layer's inputs, dotted the threshold of each."""
    basis = load_file(basis_file)
    figure, axes = plt.subplots()
    for key in sorted(name for name in basis if name.endswith(".sigma")):
        layer = key.removesuffix(".sigma")
        sigma = basis[key].flip(0)  # ascending in the file
        (line,) = axes.semilogy(sigma.clamp(min=1e-6), label=layer)
        axes.axhline(float(basis[f"{layer}.tau"]), color=line.get_color(), linestyle=":")
    axes.set(xlabel="direction", ylabel="singular value")
    axes.legend()
    figure.savefig(picture)
    plt.close(figure)


def main(first, more, image, *settings, out="runs/example"):
    """Make the run, and show what can be done with it."""
    ness("run", "--out", out, f"data.path={first}", *settings)
    ness("extend", out, f"data.path={more}")
    ness("run", "--out", out)

    results = ness_cli.read_results(out)
    print(f"ACC {results.task_incremental.acc:.2f} %, BWT {results.task_incremental.bwt:.2f}")

    model = ness_cli.load(out)
    (found,) = model.predict([image])
    print(f"{image}: {found.label} of task {found.task}, {100 * found.confidence:.1f} %")

    draw_spectrum(Path(out) / "task-01" / "basis.safetensors", Path(out) / "spectrum.png")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
