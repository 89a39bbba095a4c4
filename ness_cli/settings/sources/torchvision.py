"""A data set of torchvision: food, flowers, pets, traffic signs, textures and more."""

from __future__ import annotations

from typing import Literal

from ness_cli.settings.sources.base import PublicSettings


class Options(PublicSettings):
    """Options of the data source ``torchvision``."""

    source: Literal["torchvision"] = "torchvision"
    """A data set that torchvision reads without unpickling anything."""
    dataset: Literal[
        "Country211",
        "DTD",
        "EuroSAT",
        "FGVCAircraft",
        "Flowers102",
        "Food101",
        "GTSRB",
        "OxfordIIITPet",
        "RenderedSST2",
        "STL10",
        "USPS",
    ]
    """Its class in ``torchvision.datasets``. ``EuroSAT`` has no test images: set
    ``test_fraction``. Most need ``size``."""
