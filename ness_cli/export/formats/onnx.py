"""``onnx``: a graph of ONNX, from pixels to probabilities."""

from __future__ import annotations

import contextlib
import io
import warnings
from importlib.metadata import version
from pathlib import Path

import torch

from ness_cli.errors import SystemRefusedError
from ness_cli.export.formats.base import ExportFormat
from ness_cli.export.probability_network import OUTPUTS, traced
from ness_cli.export.subject import Subject

GRAPH = "model.onnx"


class Onnx(ExportFormat):
    """``model.onnx``: any runtime of ONNX takes it."""

    libraries = ("onnx", "onnxscript", "onnxruntime")
    imports = ""

    def write(self, subject: Subject, folder: Path) -> None:
        """Write it; errors as in the base class.

        Raises:
            SystemRefusedError: If torch does not know how to, as 2.6 with newer onnxscripts.
        """
        program = traced(subject, self.name)
        # The exporter tells every step of its own, and warns of what it calls itself.
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                graph = torch.onnx.export(
                    program,
                    dynamo=True,
                    input_names=["images"],
                    output_names=list(OUTPUTS),
                    verbose=False,
                )
            except torch.onnx.OnnxExporterError as error:
                raise SystemRefusedError(
                    f"--to onnx: torch {version('torch')} cannot write the network with onnxscript"
                    f" {version('onnxscript')}",
                    "install newer ones of both, or take --to pt2",
                ) from error
            assert graph is not None
            graph.save(folder / GRAPH)

    def logits(self, subject: Subject, folder: Path, task_number: int) -> torch.Tensor:
        """Return the logits by onnxruntime, of the first image alone and of the others together."""
        import onnxruntime  # takes a second that other formats need not wait

        session = onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])
        images = subject.images[task_number]
        parts = [part.numpy() for part in (images[:1], images[1:]) if len(part)]
        found = [session.run(["logits"], {"images": part})[0] for part in parts]
        return torch.cat([torch.from_numpy(each) for each in found])

    def usage(self, subject: Subject) -> str:
        """Return how to run the graph."""
        return (
            "```python\nimport onnxruntime\n\n"
            f'session = onnxruntime.InferenceSession("{GRAPH}")\n'
            'probabilities, logits = session.run(None, {"images": images})\n```'
        )

    def needs(self, subject: Subject) -> tuple[str, ...]:
        """Return what must be installed."""
        return ("onnxruntime",)

    def images_of_pixels(self, subject: Subject) -> str:
        """Return that pixels are taken as they are."""
        return "images = pixels  # of any number; normalisation is inside"
