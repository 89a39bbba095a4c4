"""PEFT, which imports torchvision: after it was imported as this package does."""

from ness_cli.vision_libraries import import_torchvision

import_torchvision()
__import__("peft")  # takes seconds, once for all processes that are forked from this one
