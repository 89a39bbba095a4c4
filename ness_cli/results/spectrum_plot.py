"""Spectra of all layers as a picture, one panel a layer, one line a task."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ness_cli.errors import InputError, SettingsError

ENDINGS = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Refuse a picture that could not be drawn, before anything is measured for it.

    Raises:
        SettingsError: If the ending is none of png, svg, pdf, or matplotlib is not installed.
    """
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"--plot: {path} does not end in {', '.join(ENDINGS)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise SettingsError(
            "--plot: matplotlib is not installed", "run: pip install 'ness-cli[plots]'"
        )


def plot_spectra(spectra: Mapping[int, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    """Draw the singular values of every layer's inputs after every task, with the threshold.

    Args:
        spectra: Task and layer to ``sigma`` and ``tau``.
        path: Where to, as ``check_plot`` allows it; the ending decides the format.

    Raises:
        InputError: If there is no spectrum to draw.
    """
    from matplotlib.figure import Figure  # not at the top: it is not installed everywhere

    if not spectra:
        raise InputError(
            "--plot: the run has no spectra", "only ness keeps them, once it has built"
        )
    layers = list(spectra[max(spectra)])
    columns = min(3, len(layers))
    rows = -(-len(layers) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, layer in zip(panels, layers, strict=False):
        for task, own in spectra.items():
            sigma, tau = own[layer]["sigma"], own[layer]["tau"]
            floor = max(sigma[-1], tau) * 1e-8
            shade = 0.25 + 0.75 * task / max(spectra)
            percents = [100 * (i + 1) / len(sigma) for i in range(len(sigma))]
            panel.semilogy(
                percents, [max(s, floor) for s in sigma], color="C0", alpha=shade, lw=1.2
            )
            panel.axhline(max(tau, floor), color="C3", alpha=shade, lw=0.8, ls="--")
        panel.set_title(f"{layer}, d = {len(sigma)}", fontsize=10)
    for panel in panels[len(layers) :]:
        panel.set_visible(False)
    tasks = (
        f"tasks {min(spectra)} to {max(spectra)}" if len(spectra) > 1 else f"task {max(spectra)}"
    )
    figure.supxlabel("share of directions, %")
    figure.supylabel("singular value of the inputs")
    figure.suptitle(f"Solid: spectrum, dashed: threshold tau; {tasks}, light to dark", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
