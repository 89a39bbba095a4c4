from __future__ import annotations

import pytest

from ness_cli.results.task_facts import TaskFacts, are_disjoint, facts_of, read_tasks
from ness_cli.run_dir import RunDir


def _manifest(names, classes, **more):
    tasks = [
        {"name": name, "classes": own, "splits": {"test": {"count": 10 * (t + 1)}}}
        for t, (name, own) in enumerate(zip(names, classes, strict=True))
    ]
    return {"tasks": tasks, "shared_labels": False, "source": "npz", **more}


def _labels(manifest):
    return [facts.label(40) for facts in facts_of(manifest)]


def test_tasks_of_a_split_are_called_by_their_classes():
    manifest = _manifest(["classes-1-2", "classes-3-4"], [["daisy", "rose"], ["oak", "elm"]])
    assert _labels(manifest) == ["daisy, rose", "oak, elm"]
    assert [facts.num_test for facts in facts_of(manifest)] == [10, 20]


def test_names_that_only_count_say_no_more_than_the_number():
    same = [["0", "1"]] * 2
    counting = _manifest(["permutation-1", "permutation-2"], same, shared_labels=True)
    assert _labels(counting) == ["", ""]
    swapped = _manifest(["permutation-2", "permutation-1"], same, shared_labels=True)
    assert _labels(swapped) == ["permutation-2", "permutation-1"]
    turned = _manifest(["rotation-0", "rotation-18"], same, shared_labels=True)
    assert _labels(turned) == ["rotation-0", "rotation-18"]


def test_tasks_of_a_sequence_are_called_by_their_data_set():
    manifest = _manifest(["mnist", "svhn"], [["0"], ["0"]], source="sequence")
    assert _labels(manifest) == ["mnist", "svhn"]


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (99, "apple, bear, cat"),
        (15, "apple, bear +1"),
        (9, "apple +2"),
        (8, "apple +2"),
        (7, "apple.."),
        (6, "appl.."),
    ],
)
def test_labels_are_shortened_to_the_room_there_is(width, shown):
    assert TaskFacts(1, ("apple", "bear", "cat")).label(width) == shown
    assert len(shown) <= width
    assert TaskFacts(1).label(width) == ""


def test_a_run_without_a_description_has_nameless_tasks(tmp_path):
    assert read_tasks(RunDir(tmp_path), 2) == (TaskFacts(1), TaskFacts(2))


def test_only_permutations_and_rotations_share_test_images():
    assert are_disjoint({"data.protocol": "split"})
    assert are_disjoint({})
    assert not are_disjoint({"data.protocol": "permuted"})
    assert are_disjoint({"data.sources": [{"protocol": "split"}, {}]})
    assert not are_disjoint({"data.sources": [{"protocol": "split"}, {"protocol": "rotated"}]})
