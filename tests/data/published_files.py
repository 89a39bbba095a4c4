"""Tiny data sets in the exact formats in which the public ones are published."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

PER_CLASS = {"train": 4, "test": 2}


def pixels(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def labels(split: str, num_classes: int = 10) -> np.ndarray:
    # Interleaved, as in the real files: the order of images is not that of classes.
    return np.tile(np.arange(num_classes), PER_CLASS[split])


def _tar(path: Path, members: dict[str, object]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            data = pickle.dumps(content, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def cifar10(folder: Path) -> dict[str, np.ndarray]:
    train, test = pixels(1, (40, 3072)), pixels(2, (20, 3072))
    top = "cifar-10-batches-py"
    members: dict[str, object] = {
        f"{top}/data_batch_{b + 1}": {
            "data": train[8 * b : 8 * b + 8],
            "labels": labels("train")[8 * b : 8 * b + 8].tolist(),
            "batch_label": f"training batch {b + 1} of 5",
        }
        for b in range(5)
    }
    members[f"{top}/test_batch"] = {"data": test, "labels": labels("test").tolist()}
    members[f"{top}/batches.meta"] = {"label_names": [f"thing{k}" for k in range(10)]}
    folder.mkdir(parents=True, exist_ok=True)
    _tar(folder / "cifar-10-python.tar.gz", members)
    return {"train": train, "test": test}


def cifar100(folder: Path, **changes: object) -> dict[str, np.ndarray]:
    train, test = pixels(3, (400, 3072)), pixels(4, (200, 3072))
    top = "cifar-100-python"
    content = {
        "train": {"data": train, "fine_labels": labels("train", 100).tolist()},
        "test": {"data": test, "fine_labels": labels("test", 100).tolist()},
        "meta": {"fine_label_names": [f"class{k:02d}" for k in range(100)]},
    }
    content |= changes
    folder.mkdir(parents=True, exist_ok=True)
    _tar(folder / "cifar-100-python.tar.gz", {f"{top}/{k}": v for k, v in content.items()})
    return {"train": train, "test": test}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist(folder: Path, *, seed: int = 5, packed: bool = True) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, split in (("train", "train"), ("t10k", "test")):
        numbers = labels(split).astype(np.uint8)
        made[split] = pixels(seed + len(name), (len(numbers), 28, 28))
        for kind, array in (("images-idx3", made[split]), ("labels-idx1", numbers)):
            path = folder / f"{name}-{kind}-ubyte"
            if packed:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))
    return made


def svhn(folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for split in ("train", "test"):
        numbers = labels(split)
        made[split] = pixels(7 + len(split), (32, 32, 3, len(numbers)))
        stored = np.where(numbers == 0, 10, numbers).astype(np.uint8)[:, None]
        savemat(folder / f"{split}_32x32.mat", {"X": made[split], "y": stored})
    return made


def notmnist(folder: Path) -> Path:
    for k, letter in enumerate("ABCDEFGHIJ"):
        place = folder / "notMNIST_small" / letter
        place.mkdir(parents=True)
        for i in range(10):
            Image.fromarray(pixels(100 * k + i, (28, 28))).save(place / f"font{i}.png")
    broken = folder / "notMNIST_small" / "A" / "RGVtb2NyYXRpY2FCb2xkT2xkc3R5bGUgQm9sZC50dGY=.png"
    broken.write_bytes(b"")
    return folder / "notMNIST_small"


def mini_imagenet(folder: Path, side: int = 8) -> dict[str, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for split in ("train", "test"):
        numbers = labels(split, 100)
        made[split] = pixels(11 + len(split), (len(numbers), side, side, 3))
        content = {"images": list(made[split]), "labels": numbers.tolist()}
        (folder / f"{split}.pkl").write_bytes(pickle.dumps(content))
    return made


def mini_imagenet_cache(folder: Path, side: int = 8) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 64), ("val", 16), ("test", 20)):
        content = {
            "image_data": pixels(count, (3 * count, side, side, 3)),
            "class_dict": {f"n{part}{k:03d}": [3 * k, 3 * k + 1, 3 * k + 2] for k in range(count)},
        }
        path = folder / f"mini-imagenet-cache-{part}.pkl"
        path.write_bytes(pickle.dumps(content, protocol=2))


def npz(path: Path, *, colour: bool = False, **changes: object) -> dict[str, np.ndarray]:
    tail = (28, 28, 3) if colour else (28, 28)
    made = {
        "train_images": pixels(21, (12, *tail)),
        "train_labels": np.tile(np.arange(3), 4)[:, None].astype(np.uint8),
        "val_images": pixels(22, (3, *tail)),
        "val_labels": np.arange(3)[:, None].astype(np.uint8),
        "test_images": pixels(23, (6, *tail)),
        "test_labels": np.tile(np.arange(3), 2)[:, None].astype(np.uint8),
    }
    made |= changes
    np.savez(path, **{k: v for k, v in made.items() if v is not None})
    return made
