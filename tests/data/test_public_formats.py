"""Public data sets in their published formats, made small."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import published_files as made
import pytest
import torch

from ness_cli import registry
from ness_cli.console import Progress
from ness_cli.data.formats import mnist_and_svhn
from ness_cli.data.store import keys, prepare
from ness_cli.data.stream_manifest import plan
from ness_cli.data.stream_plan import content_hashes
from ness_cli.data.task_stream import TaskStream
from ness_cli.data.tasks.classes import assigned_classes
from ness_cli.errors import InputError, MissingFilesError, SettingsError
from ness_cli.settings.resolve import build, resolve


def _options(source: str, **more):
    model = registry.load_class(
        "ness_cli.settings.sources", source, setting="test", attribute="Options"
    )
    return model.model_validate({"valid_fraction": 0.0, **more})


def _open(cache: Path, source: str, **more) -> TaskStream:
    options = _options(source, **more)
    counts = [t["splits"]["train"]["count"] for t in plan(options)["tasks"]]
    manifest = prepare(options, cache, Progress())
    assert [t["splits"]["train"]["count"] for t in manifest["tasks"]] == counts
    return TaskStream(manifest, cache, remedy="")


def _same(split, label: int, expected: np.ndarray) -> bool:
    """Whether the images of a label are those expected, in whatever order."""
    own = split.images[split.labels == label]
    return {i.numpy().tobytes() for i in own} == {
        np.ascontiguousarray(e).tobytes() for e in expected
    }


@pytest.mark.parametrize("unpacked", [False, True])
def test_cifar10(tmp_path, unpacked):
    truth = made.cifar10(tmp_path / "data")
    if unpacked:
        import tarfile

        with tarfile.open(tmp_path / "data" / "cifar-10-python.tar.gz") as archive:
            archive.extractall(tmp_path / "data", filter="data")
        (tmp_path / "data" / "cifar-10-python.tar.gz").unlink()
    stream = _open(tmp_path / "cache", "cifar10", path=str(tmp_path / "data"))
    assert stream.num_tasks == 5
    assert stream.info(2).classes == ("thing2", "thing3")
    planes = truth["train"].reshape(-1, 3, 32, 32)
    assert _same(stream.split(2, "train"), 1, planes[made.labels("train") == 3])
    assert _same(
        stream.split(5, "test"), 0, truth["test"].reshape(-1, 3, 32, 32)[made.labels("test") == 8]
    )


def test_cifar100_and_its_scrambled_layout(tmp_path):
    truth = made.cifar100(tmp_path)
    path = str(tmp_path / "cifar-100-python.tar.gz")
    stream = _open(tmp_path / "cache", "cifar100", path=path)
    assert stream.num_tasks == 10
    assert stream.info(10).classes[-1] == "class99"
    own = truth["test"][made.labels("test", 100) == 57]
    assert _same(stream.split(6, "test"), 7, own.reshape(-1, 3, 32, 32))
    scrambled = _open(tmp_path / "cache", "cifar100", path=path, layout="scrambled")
    c, h, w = np.meshgrid(np.arange(3), np.arange(32), np.arange(32), indexing="ij")
    assert _same(scrambled.split(6, "test"), 7, own[:, 96 * h + 3 * w + c])


def test_the_superclass_preset_deals_five_classes_of_a_kind():
    options = resolve("superclass-lenet-gpm").settings.data
    tasks = assigned_classes(sorted(options.class_order), options)
    assert len(tasks) == 20
    assert len({name for task in tasks for name in task}) == 100
    assert tasks[0] == ("beaver", "dolphin", "otter", "seal", "whale")
    assert tasks[14] == ("baby", "boy", "girl", "man", "woman")


@pytest.mark.parametrize("source", ["mnist", "fashion-mnist", "kmnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_idx_family(tmp_path, source, packed):
    folder = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}[source]
    truth = made.mnist(tmp_path / folder / "raw", packed=packed)
    stream = _open(tmp_path / "cache", source, path=str(tmp_path))
    assert stream.image_shape == (1, 28, 28)
    assert _same(stream.split(3, "train"), 1, truth["train"][made.labels("train") == 5, None])
    padded = _open(
        tmp_path / "cache", source, path=str(tmp_path), size=32, fit="pad", channels="rgb"
    ).split(3, "test")
    expected = np.pad(truth["test"], ((0, 0), (2, 2), (2, 2)))[:, None].repeat(3, axis=1)
    assert _same(padded, 0, expected[made.labels("test") == 4])


def test_digits_are_not_taken_for_clothing(tmp_path, monkeypatch):
    made.mnist(tmp_path)
    owned = {mnist_and_svhn.md5_of(tmp_path / "train-images-idx3-ubyte.gz"): "MNIST"}
    monkeypatch.setattr(mnist_and_svhn, "_owners", lambda: owned)
    _open(tmp_path / "cache", "mnist", path=str(tmp_path))
    with pytest.raises(InputError, match="a file of MNIST, not of Fashion-MNIST"):
        _open(tmp_path / "cache", "fashion-mnist", path=str(tmp_path))


def _labels_of(title: str, num: int) -> np.ndarray:
    """Return labels as that data set has them, in an order of our own after the first ten."""
    from ness_cli.data.formats import idx_labels

    if title == "MNIST":
        return np.arange(10, dtype=np.uint8).repeat(idx_labels._MNIST_COUNTS[num])
    labels = np.arange(10, dtype=np.uint8).repeat(num // 10)
    if title == "Fashion-MNIST":
        first = np.array(idx_labels._FIRST_OF_FASHION[num], np.uint8)
        left = np.bincount(labels) - np.bincount(first, minlength=10)
        labels = np.concatenate([first, np.arange(10, dtype=np.uint8).repeat(left)])
    return labels


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("owner", ["MNIST", "Fashion-MNIST", "KMNIST"])
@pytest.mark.parametrize("title", ["MNIST", "Fashion-MNIST", "KMNIST"])
def test_each_of_the_family_is_told_by_its_labels(tmp_path, title, owner, packed):
    made.mnist(tmp_path, packed=packed)
    for name, num in (("train", 60000), ("t10k", 10000)):
        path = tmp_path / f"{name}-labels-idx1-ubyte{'.gz' if packed else ''}"
        data = b"\0\0\x08\x01" + num.to_bytes(4, "big") + _labels_of(owner, num).tobytes()
        path.write_bytes(gzip.compress(data, 1) if packed else data)
    options = _options(title.lower(), path=str(tmp_path))
    if title == owner:
        assert len(mnist_and_svhn.locate(options, None)) == 4
    else:
        with pytest.raises(InputError, match=f"a file of {owner}, not of {title}"):
            mnist_and_svhn.locate(options, None)


@pytest.mark.parametrize(
    ("source", "key"),
    [
        ("mnist", "fba9a1d6988258ac750532c987dc92e52ee631ea349642f580cc8c5fc376be90"),
        ("fashion-mnist", "d602eea0db574ea976dee65e57c20c7f4cc99682d91259cd057b58bc7e153fba"),
        ("kmnist", "0ff8ed33dc422f3b5e0d1284c5fdcaea046a407b91a8f337ef4d30ab13777ebe"),
        ("svhn", "4313faa6a0381de8637e92633ee06ba63deefd06b8e97d780bc259c2a3250d80"),
        ("cifar10", "07129da0c8032b856c046cc1a441b59eeee47dad95b26f25be05b48a59cdd828"),
        ("cifar100", "13892f3d0ee845dd1c16cb27e0f6db6f807873d24f69397de622eb99cc6aca2d"),
    ],
)
def test_runs_prepared_before_keep_their_key(source, key):
    """The keys were written by the first version that had a reader of its own for each format."""
    options = registry.load_class(
        "ness_cli.settings.sources", source, setting="test", attribute="Options"
    )()
    assert keys(options, ["0" * 64])[0] == key


@pytest.mark.parametrize("source", ["mnist", "fashion-mnist", "kmnist", "svhn"])
def test_content_is_that_of_the_files_in_their_published_order(tmp_path, source):
    if source == "svhn":
        made.svhn(tmp_path)
        names = ["train_32x32.mat", "test_32x32.mat"]
    else:
        made.mnist(tmp_path)
        kinds = ("images-idx3", "labels-idx1")
        names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in kinds]
    digests = (hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in names)
    expected = hashlib.sha256(b"".join(b"archive" + digest for digest in digests)).hexdigest()
    assert content_hashes([_options(source, path=str(tmp_path))], Progress()) == [expected]


def test_names_of_classes_are_those_of_before(tmp_path):
    made.mnist(tmp_path)
    made.svhn(tmp_path)
    digits = tuple("0123456789")
    clothes = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
    clothes += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    kana = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    for source, names in {
        "mnist": digits,
        "fashion-mnist": clothes,
        "kmnist": kana,
        "svhn": digits,
    }.items():
        assert mnist_and_svhn.read(_options(source, path=str(tmp_path)), None).classes == names


def test_labels_of_another_number_or_share_are_nobodys():
    from ness_cli.data.formats.idx_labels import owner_of

    assert owner_of(torch.arange(100, dtype=torch.uint8) % 10) is None
    assert owner_of(torch.zeros(10000, dtype=torch.uint8)) is None


def test_svhn_counts_digit_ten_as_zero(tmp_path):
    truth = made.svhn(tmp_path)
    stream = _open(tmp_path / "cache", "svhn", path=str(tmp_path))
    images = truth["train"].transpose(3, 2, 0, 1)
    assert _same(stream.split(1, "train"), 0, images[made.labels("train") == 0])


def test_notmnist_is_resized_and_its_broken_files_are_left_out(tmp_path):
    from PIL import Image

    made.notmnist(tmp_path)
    options = {"path": str(tmp_path), "size": 32, "fit": "lanczos", "classes_per_task": 10}
    stream = _open(tmp_path / "cache", "notmnist", **options)
    train, test = stream.split(1, "train"), stream.split(1, "test")
    assert stream.info(1).classes == tuple("ABCDEFGHIJ")
    assert (len(train.labels), len(test.labels)) == (90, 10)
    image = Image.fromarray(made.pixels(203, (28, 28))).resize((32, 32), Image.Resampling.LANCZOS)
    every = torch.cat([train.images, test.images])[torch.cat([train.labels, test.labels]) == 2]
    assert np.asarray(image).tobytes() in {i.numpy().tobytes() for i in every}


def test_mini_imagenet_classes_follow_the_runs_seed(tmp_path):
    truth = made.mini_imagenet(tmp_path / "MiniImageNet")
    options = _options("mini-imagenet", path=str(tmp_path))
    with pytest.raises(AssertionError):
        _ = options.stream_seed  # "run" must have been replaced
    orders = {1: [80, 84, 33, 81, 93], 2: [83, 30, 56, 24, 16], 37: [61, 49, 86, 78, 5]}
    for seed, first in orders.items():
        manifest = prepare(options.for_run(seed), tmp_path / "cache", Progress())
        stream = TaskStream(manifest, tmp_path / "cache", remedy="")
        assert stream.num_tasks == 20
        assert stream.info(1).classes == tuple(f"{label:02d}" for label in first)
        own = truth["train"][made.labels("train", 100) == first[3]].transpose(0, 3, 1, 2)
        assert _same(stream.split(1, "train"), 3, own)


def test_a_runs_seed_reaches_the_stream(tmp_path):
    raw = {"data": {"source": "mini-imagenet", "path": str(tmp_path)}, "seed": 37}
    settings = build(raw)
    assert settings.stream.stream_seed == 37
    assert settings.identity()["data.split_seed"] == "run"
    nested = {"source": "sequence", "split_seed": "run", "sources": [{"source": "digits"}]}
    assert build({"data": nested, "seed": 4}).stream.datasets()[0].stream_seed == 4


def test_the_mini_imagenet_cache_files(tmp_path):
    made.mini_imagenet_cache(tmp_path)
    options = {"path": str(tmp_path), "class_order": "sorted", "split_seed": 0}
    with pytest.raises(InputError, match="no test images") as error:
        _open(tmp_path / "cache", "mini-imagenet", **options)
    assert "data.test_fraction" in error.value.remedy
    stream = _open(tmp_path / "cache", "mini-imagenet", test_fraction=0.34, **options)
    assert stream.num_tasks == 20
    assert stream.info(1).classes[0] == "ntrain000"
    assert stream.info(20).classes[-1] == "ntest019"
    assert len(stream.split(20, "train").labels) == 10


@pytest.mark.parametrize("colour", [False, True])
def test_npz_adds_its_validation_images_to_the_training_images(tmp_path, colour):
    truth = made.npz(tmp_path / "m.npz", colour=colour)
    stream = _open(tmp_path / "c", "npz", path=str(tmp_path / "m.npz"), classes_per_task=3)
    assert stream.image_shape == (3 if colour else 1, 28, 28)
    images = np.concatenate([truth["train_images"], truth["val_images"]])
    numbers = np.concatenate([truth["train_labels"], truth["val_labels"]])[:, 0]
    images = images.transpose(0, 3, 1, 2) if colour else images[:, None]
    assert _same(stream.split(1, "train"), 2, images[numbers == 2])


def test_five_data_sets_in_sequence(tmp_path):
    root = tmp_path / "data"
    made.cifar10(root)
    made.mnist(root / "MNIST" / "raw")
    made.mnist(root / "FashionMNIST" / "raw", seed=50)
    made.svhn(root)
    made.notmnist(root)
    settings = resolve("five-resnet18-ness-sgdm-parity", [f"data.path={root}"]).settings
    manifest = prepare(settings.stream, tmp_path / "cache", Progress())
    stream = TaskStream(manifest, tmp_path / "cache", remedy="")
    names = [stream.info(t).name for t in range(1, 6)]
    assert names == ["cifar10", "mnist", "svhn", "fashion-mnist", "notmnist"]
    assert stream.image_shape == (3, 32, 32)
    assert stream.info(1).mean == (0.49137, 0.48235, 0.44667)
    assert stream.info(4).std == (0.3318, 0.3318, 0.3318)
    assert [stream.info(t).num_classes for t in range(1, 6)] == [10] * 5
    assert not stream.shared_labels
    # The border of a padded image is black, the corners of a resized one are not.
    border = stream.split(2, "train").images[:, :, :2]
    assert not border.any()


def test_constants_are_computed_from_each_data_sets_own_first_task(tmp_path):
    made.mnist(tmp_path / "a")
    made.npz(tmp_path / "b.npz")
    sources = [
        {"source": "mnist", "path": str(tmp_path / "a"), "num_tasks": 2},
        {"source": "npz", "path": str(tmp_path / "b.npz"), "classes_per_task": 3},
    ]
    stream = _open(tmp_path / "c", "sequence", sources=sources)
    for task, first in ((1, 1), (2, 1), (3, 3)):
        pixels = stream.split(first, "train").images.double() / 255
        assert stream.info(task).mean == pytest.approx([float(pixels.mean())])
    assert [stream.info(t).name for t in (1, 2, 3)] == [
        "mnist classes-1-2",
        "mnist classes-3-4",
        "npz",
    ]


# -- what is missing or wrong --------------------------------------------------------------------


def test_missing_files_are_all_named_with_their_place_and_checksum(tmp_path):
    more = {"path": str(tmp_path), "download": False}
    for source, words in {
        "cifar100": ["cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"],
        "mnist": ["t10k-labels-idx1-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "MNIST/raw"],
        "svhn": ["test_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"],
    }.items():
        with pytest.raises(MissingFilesError) as error:
            plan(_options(source, **more))
        for word in (*words, str(tmp_path)):
            assert word in error.value.what + error.value.remedy
    for source in ("mini-imagenet", "notmnist"):
        with pytest.raises(MissingFilesError, match=str(tmp_path)):
            plan(_options(source, path=str(tmp_path)))


def test_a_plan_lists_what_is_there_and_says_what_is_not(tmp_path):
    made.mnist(tmp_path)
    sources = [{"source": "cifar10"}, {"source": "mnist"}, {"source": "svhn"}]
    options = _options(
        "sequence", path=str(tmp_path), sources=sources, size=32, channels="rgb", download=False
    )
    planned = plan(options)
    assert len(planned["tasks"]) == 5
    assert [each["what"].split(":")[0] for each in planned["missing"]] == ["CIFAR-10", "SVHN"]
    with pytest.raises(MissingFilesError) as error:
        prepare(options, tmp_path / "cache", Progress())
    assert "CIFAR-10" in error.value.what
    assert "SVHN" in error.value.what


def _attack(target: Path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {target}",)

    return Attack()


@pytest.mark.parametrize("protocol", range(6))
def test_an_attack_pickle_does_not_execute(tmp_path, protocol):
    target = tmp_path / "attacked"
    folder = tmp_path / "data"
    made.mini_imagenet(folder)
    inner = np.empty(1, dtype=object)
    inner[0] = _attack(target)
    for content in (_attack(target), {"images": inner, "labels": []}):
        (folder / "train.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
        with pytest.raises(InputError, match="has no business"):
            prepare(_options("mini-imagenet", path=str(folder), split_seed=0), tmp_path, Progress())
    assert not target.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_plain_values_are_read(protocol):
    import io

    from ness_cli.data.formats import safe_pickle

    content = {
        "a": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "n": [1, 2.5, "x", b"bytes", None, True, (1, 2)],
        "s": np.float32(2),
    }
    found = safe_pickle.load(io.BytesIO(pickle.dumps(content, protocol)), "it")
    assert found["n"] == content["n"]
    assert np.array_equal(found["a"], content["a"])
    assert np.array_equal(found["f"], content["f"])
    assert found["s"] == 2


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n.",
        b"cnumpy\nload\n.",
        b"Pid\n.",
        b"\x80\x02\x82\x01.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        b"garbage",
        b"",
    ],
)
def test_other_programs_and_garbage_are_refused(program):
    import io

    from ness_cli.data.formats import safe_pickle

    with pytest.raises(InputError, match="the file"):
        safe_pickle.load(io.BytesIO(program), "the file")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": {"data": np.zeros((4, 3072), np.uint8)}}, "fine_labels"),
        ({"train": {"data": np.zeros((4, 99), np.uint8), "fine_labels": [0] * 4}}, "3072"),
        ({"meta": {}}, "fine_label_names"),
        ({"train": {"data": made.pixels(1, (2, 3072)), "fine_labels": [0, 100]}}, "label 100"),
        ({"train": {"data": made.pixels(1, (2, 3072)), "fine_labels": [0]}}, "2 images and 1 lab"),
        ({"train": {"data": made.pixels(1, (1, 3072)), "fine_labels": ["x"]}}, "whole numbers"),
        ({"train": {"data": made.pixels(1, (1, 3072)), "fine_labels": [0]}}, "none in train"),
        ({"train": [1, 2]}, "no dict"),
    ],
)
def test_wrong_content_of_an_archive_is_named(tmp_path, change, words):
    made.cifar100(tmp_path, **change)
    with pytest.raises(InputError, match=words):
        _open(tmp_path / "cache", "cifar100", path=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_images": np.zeros((3, 8, 8))}, "float64"),
        ({"train_images": np.zeros((3, 8, 8), np.uint16)}, "uint16"),
        ({"train_images": np.zeros((3, 8, 8, 4), np.uint8)}, "colour"),
        ({"train_labels": np.zeros((12, 14), np.uint8)}, "several labels"),
        ({"train_labels": None}, "train_labels"),
        ({"train_images": None}, "train_images"),
        ({"train_labels": np.repeat([0, 1, 3], 4), "val_images": None}, "none in train"),
        ({"train_labels": np.repeat([0, 1, 4], 4), "val_images": None}, "no label 3"),
        ({"train_labels": np.array([{}] * 12)}, "pickled objects"),
        ({"train_labels": np.full((12, 1), -1)}, "label"),
    ],
)
def test_wrong_content_of_an_npz_is_named(tmp_path, change, words):
    made.npz(tmp_path / "m.npz", **change)
    with pytest.raises(InputError) as error:
        _open(tmp_path / "cache", "npz", path=str(tmp_path / "m.npz"), classes_per_task=3)
    assert words in f"{error.value.what} {error.value.remedy}"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("cifar10", "cifar-10-python.tar.gz"),
        ("mnist", "train-images-idx3-ubyte.gz"),
        ("mnist", "t10k-labels-idx1-ubyte.gz"),
        ("svhn", "test_32x32.mat"),
        ("mini-imagenet", "test.pkl"),
        ("npz", "m.npz"),
    ],
)
@pytest.mark.parametrize("keep", [0.0, 0.6])
def test_truncated_files_are_named(tmp_path, source, name, keep):
    getattr(made, source.replace("-", "_"))(tmp_path / name if source == "npz" else tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    where = str(path) if source == "npz" else str(tmp_path)
    more = {"split_seed": 0} if source == "mini-imagenet" else {}
    with pytest.raises(InputError, match=name.split(".")[0]):
        _open(tmp_path / "cache", source, path=where, **more)


def test_sequences_refuse_what_does_not_fit_together(tmp_path):
    made.mnist(tmp_path)
    made.svhn(tmp_path)
    with pytest.raises(SettingsError, match="3 x 32 x 32") as error:
        _open(
            tmp_path / "c",
            "sequence",
            path=str(tmp_path),
            sources=[{"source": "mnist"}, {"source": "svhn"}],
        )
    assert "data.size" in error.value.remedy
    for item, words in (
        ({"source": "mnits"}, "did you mean 'mnist'"),
        ({"source": "sequence", "sources": [{"source": "digits"}]}, "cannot be part"),
        ({"source": "digits", "size": 0}, "size"),
        ({"source": "digits", "colour": 1}, "colour"),
        ("digits", "sources"),
    ):
        with pytest.raises(SettingsError, match=words):
            build({"data": {"source": "sequence", "sources": [item]}})


# -- downloads -----------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """CIFAR-10 'published' in a folder, and the description of its archive changed to match."""
    from dataclasses import replace

    from ness_cli.data.formats.download import md5_of
    from ness_cli.data.sources import cifar10

    made.cifar10(tmp_path / "web")
    path = tmp_path / "web" / "cifar-10-python.tar.gz"
    file = replace(cifar10._ARCHIVE.file, url=path.as_uri(), md5=md5_of(path))
    changed = replace(cifar10._ARCHIVE, file=file)
    monkeypatch.setattr(cifar10, "opened", changed.opened)
    monkeypatch.setattr(cifar10, "content_hash", changed.content_hash)
    return path


def test_missing_files_are_downloaded_and_checked(tmp_path, archive):
    options = _options("cifar10", path=str(tmp_path / "data"))
    with pytest.raises(MissingFilesError) as error:
        plan(options)
    assert error.value.can_download
    assert not (tmp_path / "data").exists()
    prepare(options, tmp_path / "cache", Progress())
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["cifar-10-python.tar.gz"]
    archive.unlink()  # from now on nothing is fetched
    prepare(options, tmp_path / "cache", Progress())


def test_a_download_with_another_checksum_leaves_nothing_behind(tmp_path, archive):
    archive.write_bytes(b"something else")
    with pytest.raises(InputError, match="MD5"):
        prepare(_options("cifar10", path=str(tmp_path / "data")), tmp_path / "c", Progress())
    assert list((tmp_path / "data").iterdir()) == []


def test_a_download_that_fails_says_what_to_put_where(tmp_path, archive):
    archive.unlink()
    with pytest.raises(MissingFilesError, match="cannot be downloaded") as error:
        prepare(_options("cifar10", path=str(tmp_path / "data")), tmp_path / "c", Progress())
    assert "MD5" in error.value.remedy
    assert list((tmp_path / "data").iterdir()) == []
