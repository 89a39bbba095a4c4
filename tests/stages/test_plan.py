from __future__ import annotations

import pytest

from ness_cli.errors import SettingsError
from ness_cli.settings.resolve import build
from ness_cli.stages.plan import check_fit


def _manifest(**counts):
    splits = {name: {"count": counts.get(name, 20)} for name in ("train", "valid", "test")}
    tasks = [{"number": 1, "classes": ["a", "b"], "splits": splits}]
    return {"image_shape": [1, 4, 4], "shared_labels": False, "tasks": tasks}


def _settings(*, statistics="batch", batch_norm=True, train=8, evaluate=8):
    return build(
        {
            "net": {"name": "mlp", "hidden": [4], "batch_norm": batch_norm},
            "norm": {"statistics": statistics},
            "train": {"batch_size": train},
            "evaluate": {"batch_size": evaluate},
        }
    )


@pytest.mark.parametrize(
    ("settings", "counts", "message"),
    [
        ({"evaluate": 1}, {}, "evaluate.batch_size: a batch of one image"),
        ({"train": 1}, {}, "train.batch_size: a batch of one image"),
        ({"train": 1, "statistics": "task"}, {}, "train.batch_size: a batch of one image"),
        ({}, {"valid": 1}, "task 1 has a single valid image"),
        ({}, {"test": 1}, "task 1 has a single test image"),
    ],
)
def test_batches_of_one_that_are_normalised_by_themselves_are_refused(settings, counts, message):
    with pytest.raises(SettingsError, match=message):
        check_fit(_settings(**settings), _manifest(**counts))


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"evaluate": 2, "train": 2}, {}),
        ({"evaluate": 1, "statistics": "task"}, {"test": 1, "valid": 1}),
        ({"evaluate": 1, "train": 1, "batch_norm": False}, {"test": 1}),
    ],
)
def test_batches_of_one_are_fine_where_nothing_is_normalised_by_them(settings, counts):
    check_fit(_settings(**settings), _manifest(**counts))
