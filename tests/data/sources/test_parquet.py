"""Parquet files as Hugging Face writes them."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import published_files as made
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from ness_cli.console import Progress
from ness_cli.data.store import prepare
from ness_cli.data.task_stream import TaskStream
from ness_cli.errors import InputError, SettingsError
from ness_cli.settings.sources.parquet import Options

NAMES = ["cat", "dog", "eel", "fox"]


def _encoded(seed: int, size=(6, 5), mode="RGB") -> bytes:
    shape = size if mode == "L" else (*size, 3)
    file = io.BytesIO()
    Image.fromarray(made.pixels(seed, shape)).save(file, "PNG")
    return file.getvalue()


def _table(split: str, *, struct=True, names=True, image="image", label="label", **images):
    labels = made.labels(split, 4)
    encoded = [_encoded(1000 * len(split) + i, **images) for i in range(len(labels))]
    column = [{"bytes": e, "path": None} for e in encoded] if struct else encoded
    table = pa.table({image: column, label: labels, "note": ["x"] * len(labels)})
    if names:
        features = {label: {"names": NAMES, "_type": "ClassLabel"}}
        document = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": document})
    return table


def _open(path, cache, **more) -> TaskStream:
    values = {"path": str(path), "valid_fraction": 0.0, "classes_per_task": 2, **more}
    options = Options.model_validate(values)
    return TaskStream(prepare(options, cache, Progress()), cache, remedy="")


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_images_labels_and_names_are_those_of_the_files(tmp_path, struct, nested):
    for split in ("train", "test", "validation"):
        folder = tmp_path / "d" / (split if nested else "data")
        folder.mkdir(parents=True, exist_ok=True)
        table = _table("test" if split == "validation" else split, struct=struct)
        half = len(table) // 2
        stem = "0000" if nested else f"{split}-0000"
        pq.write_table(table.slice(0, half), folder / f"{stem}0-of-00002.parquet")
        pq.write_table(table.slice(half), folder / f"{stem}1-of-00002.parquet")
    stream = _open(tmp_path / "d", tmp_path / "cache")
    assert [stream.info(t).classes for t in (1, 2)] == [("cat", "dog"), ("eel", "fox")]
    split = stream.split(2, "train")
    own = {i.numpy().tobytes() for i in split.images[split.labels == 1]}
    expected = {
        made.pixels(5000 + i, (6, 5, 3)).transpose(2, 0, 1).tobytes()
        for i, label in enumerate(made.labels("train", 4))
        if label == 3
    }
    assert own == expected
    assert len(stream.split(1, "test").labels) == 4


def test_one_file_is_split_by_fraction_and_classes_are_numbers_without_names(tmp_path):
    pq.write_table(_table("train", names=False, mode="L"), tmp_path / "all.parquet")
    stream = _open(tmp_path / "all.parquet", tmp_path / "cache", test_fraction=0.25)
    assert stream.info(2).classes == ("2", "3")
    assert stream.image_shape == (1, 6, 5)
    assert len(stream.split(1, "test").labels) == 2


def test_sizes_that_differ_need_a_size(tmp_path):
    table = pa.concat_tables([_table("train"), _table("train", size=(9, 9))])
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"train\.parquet: row \d+ is 9 x 9") as error:
        _open(tmp_path, tmp_path / "cache", test_fraction=0.25)
    assert "data.size" in error.value.remedy
    assert _open(tmp_path, tmp_path / "cache", test_fraction=0.25, size=4).image_shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        ({"label": "kind"}, {}, None),
        ({}, {"label_column": "lable"}, "no column 'lable'"),
        ({}, {"label_column": "note"}, "holds string"),
        ({}, {"image_column": "label"}, "holds int64"),
        ({"image": "a"}, {}, None),
    ],
)
def test_columns_are_found_or_asked_for(tmp_path, change, more, words):
    pq.write_table(_table("train", **change), tmp_path / "train.parquet")
    if words is None:
        assert _open(tmp_path, tmp_path / "c", test_fraction=0.25, **more).num_tasks == 2
        return
    with pytest.raises(SettingsError, match=words):
        _open(tmp_path, tmp_path / "c", test_fraction=0.25, **more)


def test_two_possible_columns_must_be_told_apart(tmp_path):
    table = _table("train", label="fine")
    table = table.append_column("coarse", pa.array([0] * len(table)))
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(SettingsError, match="fine, coarse"):
        _open(tmp_path, tmp_path / "c", test_fraction=0.25)
    assert _open(tmp_path, tmp_path / "c", test_fraction=0.25, label_column="fine").num_tasks == 2


def test_damage_is_named(tmp_path):
    path = tmp_path / "train.parquet"
    pq.write_table(_table("train"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(InputError, match=r"train\.parquet"):
        _open(tmp_path, tmp_path / "c", test_fraction=0.25)
    broken = _table("train")
    column = broken.column("image").to_pylist()
    column[5] = {"bytes": column[5]["bytes"][:40], "path": None}
    pq.write_table(broken.set_column(0, "image", pa.array(column)), path)
    with pytest.raises(InputError, match=r"train\.parquet: row 5"):
        _open(tmp_path, tmp_path / "c", test_fraction=0.25)
    column[5] = None
    pq.write_table(broken.set_column(0, "image", pa.array(column)), path)
    with pytest.raises(InputError, match=r"row 5 has no image"):
        _open(tmp_path, tmp_path / "c", test_fraction=0.25, size=4, channels="rgb")
    labels = np.where(np.arange(16) == 3, 4, made.labels("train", 4))
    pq.write_table(broken.set_column(1, "label", pa.array(labels)), path)
    with pytest.raises(InputError, match="label 4 is not between 0 and 3"):
        _open(tmp_path, tmp_path / "c", test_fraction=0.25)
    path.unlink()
    with pytest.raises(InputError, match="no train"):
        _open(tmp_path, tmp_path / "c")


def test_without_pyarrow_the_remedy_is_to_install_it(tmp_path, monkeypatch):
    pq.write_table(_table("train"), tmp_path / "train.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SettingsError, match="pyarrow") as error:
        _open(tmp_path, tmp_path / "c", test_fraction=0.25)
    assert "pip install" in error.value.remedy


def test_labels_are_int64_whatever_the_column(tmp_path):
    table = _table("train")
    small = table.set_column(1, "label", table.column("label").cast(pa.int8()))
    pq.write_table(small, tmp_path / "train.parquet")
    stream = _open(tmp_path, tmp_path / "c", test_fraction=0.25)
    assert stream.split(1, "train").labels.dtype == torch.int64


@pytest.mark.parametrize("rows", [1, 3, 256])
def test_images_stay_in_the_pieces_in_which_they_are_read(tmp_path, monkeypatch, rows):
    from ness_cli.data.formats import parquet

    monkeypatch.setattr(parquet, "_ROWS", rows)
    whole = _table("train")
    for number in range(2):
        pq.write_table(whole.slice(8 * number, 8), tmp_path / f"train-{number}.parquet")
    paths = sorted(tmp_path.iterdir())
    images, labels = parquet.read(paths, "image", "label")
    assert labels.tolist() == made.labels("train", 4).tolist()
    expected = [each["bytes"] for each in whole.column("image").to_pylist()]
    assert [images[k] for k in range(16)] == expected
    assert [images.describe(k) for k in (7, 8)] == [
        "train-0.parquet: row 7",
        "train-1.parquet: row 0",
    ]


def test_no_file_is_read_twice(tmp_path):
    pq.write_table(_table("train"), tmp_path / "train-0.parquet")
    options = Options.model_validate({"path": [str(tmp_path), str(tmp_path / "train-0.parquet")]})
    with pytest.raises(InputError, match=r"train-0\.parquet is found twice"):
        prepare(options, tmp_path / "c", Progress())


@pytest.mark.parametrize("nested", [True, False])
def test_a_folder_of_several_data_sets_is_none(tmp_path, nested):
    for name in ("full", "small"):
        for split in ("train", "test"):
            folder = tmp_path / "d" / name / (split if nested else "")
            folder.mkdir(parents=True, exist_ok=True)
            stem = "0000" if nested else f"{split}-0"
            pq.write_table(_table(split), folder / f"{stem}.parquet")
    with pytest.raises(InputError, match="holds 2 data sets: d/full, d/small"):
        _open(tmp_path / "d", tmp_path / "c")
    assert _open(tmp_path / "d" / "small", tmp_path / "c").num_tasks == 2


def _with(table, column, values, kind=None):
    values = values if isinstance(values, list) else [values] * len(table)
    return table.set_column(table.schema.names.index(column), column, pa.array(values, kind))


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (lambda table: table.drop_columns(["label"]), "'label' is missing"),
        (lambda table: table.rename_columns(["img", "label", "note"]), "'image' is missing"),
        (lambda table: _with(table, "label", "cat"), "'label' holds string"),
        (lambda table: _with(table, "label", 0.6), "'label' holds double"),
        (lambda table: _with(table, "image", "cat"), "'image' holds string"),
        (lambda table: _with(table, "image", {"bytes": 3}), "'image' holds struct"),
        (lambda table: _with(table, "label", [None, *[1] * 7]), "1 of rows 0 to 7 have no 'label'"),
        (lambda table: _with(table, "label", 2**64 - 1, pa.uint64()), "is 18446744073709551615"),
    ],
)
def test_every_file_has_the_columns_of_the_first(tmp_path, test, words):
    pq.write_table(_table("train"), tmp_path / "train-0.parquet")
    pq.write_table(test(_table("test")), tmp_path / "test-0.parquet")
    with pytest.raises(InputError, match=r"test-0\.parquet.*" + words):
        _open(tmp_path, tmp_path / "c")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "there are no images"),
        ([10**9, *[0] * 15], "there is no label 1, the next one is 1000"),
    ],
)
def test_labels_without_names_run_from_zero(tmp_path, labels, words):
    table = _table("train", names=False)
    table = _with(table, "label", labels) if labels else table.slice(0, 0)
    pq.write_table(table, tmp_path / "train-0.parquet")
    with pytest.raises(InputError, match=words):
        _open(tmp_path, tmp_path / "c", test_fraction=0.25)


def test_names_of_another_data_set(tmp_path):
    pq.write_table(_table("train"), tmp_path / "train-0.parquet")
    document = {"info": {"features": {"label": {"names": NAMES[::-1]}}}}
    table = _table("test").replace_schema_metadata({"huggingface": json.dumps(document)})
    pq.write_table(table, tmp_path / "test-0.parquet")
    with pytest.raises(InputError, match=r"test-0\.parquet: the classes have other names"):
        _open(tmp_path, tmp_path / "c")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (None, None),
        (5, "no list of text"),
        ("abcd", "no list of text"),
        ([None] * 4, "no list of text"),
        (["a", "a", "b", "c"], "2 classes are called 'a'"),
    ],
)
def test_names_in_the_metadata(tmp_path, names, words):
    document = {"info": {"features": {"label": {"names": names}}}}
    table = _table("train").replace_schema_metadata({"huggingface": json.dumps(document)})
    pq.write_table(table, tmp_path / "train-0.parquet")
    if words is None:
        stream = _open(tmp_path, tmp_path / "c", test_fraction=0.25)
        assert stream.info(1).classes == ("0", "1")
        return
    with pytest.raises(InputError, match=words):
        _open(tmp_path, tmp_path / "c", test_fraction=0.25)
