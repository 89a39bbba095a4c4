"""How a program uses what was exported, from the file of an image on: part of the model card."""

from __future__ import annotations

from ness_cli.data.formats.image import Form
from ness_cli.export.formats.base import ExportFormat
from ness_cli.export.subject import Subject


def usage(form: ExportFormat, subject: Subject, image_form: Form) -> str:
    """Return Markdown whose Python blocks, run one after another, recognise ``new.png``.

    Args:
        form: The format.
        subject: What was exported.
        image_form: What images were brought to.
    """
    needs = " ".join(sorted({*form.needs(subject), "numpy", "pillow"}))
    return (
        f"    pip install {needs}\n\nFrom a file to `images`:\n\n"
        f"```python\nimport numpy as np\n{form.imports}from PIL import Image\n\n"
        f"{_reading(image_form)}{form.images_of_pixels(subject)}\n```\n\n"
        f"From `images` to `logits`, one for each of the classes below:\n\n{form.usage(subject)}"
    )


def _reading(form: Form) -> str:
    """Return the Python lines that read an image file into the array ``pixels``."""
    channels, height, width = form.shape
    mode, axes = ("L", "[None, None]") if channels == 1 else ("RGB", ".transpose(2, 0, 1)[None]")
    if form.fit == "pad":
        resized = (
            f'padded = Image.new("{mode}", ({width}, {height}))\n'
            f"padded.paste(image, (({width} - image.width) // 2, ({height} - image.height) // 2))\n"
            "image = padded\n"
        )
    else:
        size, way = f"({width}, {height})", f"Image.Resampling.{form.fit.upper()}"
        resized = f"image = image.resize({size}, {way})\n"
    return (
        f'image = Image.open("new.png").convert("{mode}")\n{resized}'
        f"pixels = np.array(image){axes}  # uint8 {[1, channels, height, width]}\n"
    )
