"""Fashion-MNIST: pictures of clothing (Xiao, Rasul, Vollgraf 2017)."""

from __future__ import annotations

from ness_cli.data.idx import IdxFiles

_FILES = IdxFiles(
    title="Fashion-MNIST",
    base_url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    folder="FashionMNIST",
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)
content_hash = _FILES.content_hash
opened = _FILES.opened
