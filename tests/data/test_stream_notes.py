from __future__ import annotations

import re

import pytest

from ness_cli.data.stream_notes import stream_notes


def _manifest(*tasks, shared=False, **more):
    """Return a manifest of tasks, each a mapping of class names to (train, test) counts."""
    return {
        "shared_labels": shared,
        "tasks": [
            {
                "number": number,
                "classes": list(classes),
                "class_counts": {
                    split: [counts[index] for counts in classes.values()]
                    for index, split in enumerate(("train", "test"))
                },
                "splits": {"test": {"count": sum(test for _, test in classes.values())}},
            }
            for number, classes in enumerate(tasks, 1)
        ],
        **more,
    }


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        (
            _manifest({"a": (40, 20), "b": (40, 20)}, {"c": (40, 20), "d": (36, 22)}),
            ["4 classes with 36 to 40 training and 20 to 22 test images each"],
        ),
        (
            _manifest(*[{"a": (9, 20), "b": (9, 20)}] * 3, shared=True),
            ["2 classes with 9 training and 20 test images each"],
        ),
        (
            _manifest({"a": (90, 20), "b": (30, 20)}, {"c": (30, 20), "d": (40, 20)}),
            ["4 classes", "'a' has 90 training images, 'b' has 30; .*limit_per_class=30"],
        ),
        (_manifest({"a": (89, 20), "b": (30, 20)}), ["2 classes", "there is one task"]),
        (
            _manifest({"a": (9, 20), "b": (9, 20)}, {"c": (9, 20)}),
            ["3 classes", r"tasks with one class: 2 \(c\); .* 100 %"],
        ),
        (
            _manifest({"a": (9, 10), "b": (9, 10)}, {"c": (9, 4), "d": (9, 4)}),
            ["4 classes", r"task 2 has 8 test images: each of them is 12\.5 points"],
        ),
        (
            _manifest({"a": (9, 20)}, {"b": (9, 20)}, left_out=["a/1.png", "b/2.png"]),
            ["2 files cannot be read .* a/1.png, b/2.png", "2 classes", r"1 \(a\), 2 \(b\)"],
        ),
    ],
)
def test_what_is_to_be_known_is_said_once_with_numbers(manifest, expected):
    found = stream_notes(manifest)
    assert len(found) == len(expected)
    for sentence, words in zip(found, expected, strict=True):
        assert re.search(words, sentence), sentence


def test_a_stream_from_before_classes_were_counted_has_no_counts_to_tell():
    manifest = _manifest({"a": (9, 20), "b": (9, 20)}, {"c": (9, 20), "d": (9, 20)})
    for task in manifest["tasks"]:
        del task["class_counts"]
    assert stream_notes(manifest) == []
