"""Metrics against their formulas, written once more with numpy on the files themselves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_up_run import made_up

from ness_cli.results.metrics import METRICS, NAMES, metrics_table
from ness_cli.stages.report import report

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
SIZE = 5


def triangle(seed: int, size: int = SIZE) -> list[list[float]]:
    """Return rows of random accuracies."""
    full = np.random.default_rng(seed).uniform(20, 100, (size, size))
    return [list(full[t, : t + 1]) for t in range(size)]


def stored(run: Path) -> np.ndarray:
    """Return the accuracies in the files of a run ``[tasks, tasks]``, NaN above the diagonal."""
    files = sorted(run.glob("task-*/accuracy.json"))
    found = np.full((len(files), len(files)), np.nan)
    for t, path in enumerate(files):
        found[t, : t + 1] = json.loads(path.read_text())["task_incremental"]
    return found


def values(*paths: Path) -> dict[str, dict[str, float | None]]:
    """Return the metrics of runs, by the name of their folder."""
    runs = report(paths).document()["runs"]
    return {Path(run["path"]).name: run["metrics"] for run in runs}


@pytest.mark.parametrize("seed", range(5))
def test_summaries_of_a_triangle(tmp_path, seed):
    run = made_up(tmp_path / "a", seed, rows=triangle(seed), order=range(SIZE))
    matrix = stored(run)
    final, diagonal = matrix[-1], np.diag(matrix)
    own = values(run)["a"]
    assert set(own) == set(NAMES)
    assert own["acc"] == pytest.approx(final.mean())
    assert own["bwt"] == pytest.approx((final - diagonal)[:-1].mean())
    assert own["forgetting_diagonal"] == pytest.approx(-own["bwt"])
    best = np.nanmax(matrix[:-1, :-1], axis=0)
    assert own["forgetting"] == pytest.approx((best - final[:-1]).mean())
    assert own["forgetting"] >= own["forgetting_diagonal"] - 1e-9
    assert own["learning_accuracy"] == pytest.approx(diagonal.mean())
    assert own["fwt"] is own["intransigence"] is own["class_acc"] is None


def test_a_single_task_has_no_transfer(tmp_path):
    own = values(made_up(tmp_path / "a", 1, rows=[[70.0]], order=[0]))["a"]
    expected = {"acc": 70.0, "learning_accuracy": 70.0}
    assert {n: own[n] for n in ("acc", "learning_accuracy", "bwt", "forgetting")} == {
        **dict.fromkeys(("bwt", "forgetting")),
        **expected,
    }


def test_forward_transfer_is_above_guessing(tmp_path):
    run = made_up(tmp_path / "a", 1, rows=triangle(1), order=range(SIZE))
    before = [61.0, 48.0, 52.5, 70.0]
    for t, value in enumerate([*before, None], start=1):
        path = run / f"task-{t:02d}" / "accuracy.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "next_task": value}))
    assert values(run)["a"]["fwt"] == pytest.approx(np.mean(before) - 100 / 2)


def test_intransigence_is_the_gap_to_joint_training_on_the_same_tasks(tmp_path):
    mine = made_up(tmp_path / "mine", 1, rows=triangle(1), order=range(SIZE))
    same = made_up(tmp_path / "j1", 1, method="joint", rows=triangle(2), order=range(SIZE))
    other = made_up(tmp_path / "j2", 2, method="joint", rows=triangle(3), order=range(SIZE))
    wide = {"net.hidden": [9]}
    made_up(tmp_path / "w", 1, method="joint", rows=triangle(4), order=range(SIZE), settings=wide)
    gaps = {run: (np.diag(stored(run)) - np.diag(stored(mine))).mean() for run in (same, other)}
    # The one of the same seed; without it all of them; nothing without any, or of joint itself.
    assert values(tmp_path)["mine"]["intransigence"] == pytest.approx(gaps[same])
    assert values(mine, other)["mine"]["intransigence"] == pytest.approx(gaps[other])
    third = made_up(tmp_path / "third", 3, rows=triangle(1), order=range(SIZE))
    both = values(third, same, other)
    assert both["third"]["intransigence"] == pytest.approx(np.mean(list(gaps.values())))
    assert values(mine, tmp_path / "w")["mine"]["intransigence"] is None
    assert values(tmp_path)["j1"]["intransigence"] is None


def test_an_unfinished_run_has_the_summaries_of_the_tasks_done(tmp_path):
    run = made_up(tmp_path / "a", 1, rows=triangle(1), order=range(SIZE))
    (run / "task-05" / "accuracy.json").unlink()
    matrix = stored(run)
    own = values(run)["a"]
    assert own["acc"] == pytest.approx(np.nanmean(matrix[3]))
    assert own["bwt"] == pytest.approx((matrix[3] - np.diag(matrix))[:3].mean())


def test_room_and_how_long_it_lasts(tmp_path):
    run = made_up(tmp_path / "a", 1, order=range(SIZE))
    ranks = {"fc1": [60, 50, 44, 40, 30], "fc2": [100, 100, 100, 100, 100]}
    widths = {"fc1": 64, "fc2": 100}
    for t in range(SIZE):
        path = run / f"task-{t + 1:02d}" / "subspace.json"
        layers = [{"layer": n, "d": widths[n], "rank": ranks[n][t]} for n in ranks]
        path.write_text(json.dumps({**json.loads(path.read_text()), "layers": layers}))
    own = values(run)["a"]
    assert own["room"] == pytest.approx(100 * 30 / 64)
    closed = -np.diff(ranks["fc1"])[-3:].mean()
    assert own["tasks_left"] == pytest.approx(30 / closed)


def test_what_a_step_takes_is_the_median_over_tasks_after_the_first(tmp_path):
    run = made_up(tmp_path / "a", 1, order=range(SIZE))
    seconds, steps = [9.0, 1.0, 2.0, 3.0, 10.0], [10, 100, 100, 50, 100]
    for t in range(SIZE):
        path = run / f"task-{t + 1:02d}" / "train.json"
        more = {"train_seconds": seconds[t], "steps": steps[t]}
        path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    expected = np.median(np.divide(seconds, steps)[1:])
    assert values(run)["a"]["step_seconds"] == pytest.approx(expected)


def test_a_mean_over_seeds_of_every_metric(tmp_path):
    for seed in (1, 2, 3):
        made_up(tmp_path / str(seed), seed, rows=triangle(seed), order=range(SIZE))
    document = report([tmp_path]).document()
    (group,) = document["groups"]
    for name in ("acc", "bwt", "forgetting", "forgetting_diagonal", "learning_accuracy"):
        own = [run["metrics"][name] for run in document["runs"]]
        expected = {"mean": np.mean(own), "std": np.std(own, ddof=1)}
        assert group["metrics"][name] == pytest.approx(expected)
    assert group["metrics"]["fwt"] == {"mean": None, "std": None}


def test_disparity_between_orders(tmp_path):
    orders = ([0, 1, 2], [2, 0, 1], [1, 2, 0])
    finals: dict[int, list[np.ndarray]] = {}
    for index, order in enumerate(orders):
        for seed in (1, 2):
            rows = triangle(10 * index + seed, 3)
            settings = {"data.task_order": [t + 1 for t in order]}
            made_up(tmp_path / f"{index}-{seed}", seed, rows=rows, order=order, settings=settings)
            finals.setdefault(index, []).append(np.array(rows[-1])[np.argsort(order)])
    # Another method, in one order only.
    made_up(tmp_path / "gpm", 1, method="gpm", rows=triangle(7, 3), order=orders[0])
    per_order = np.array([np.mean(own, axis=0) for own in finals.values()])
    spread = per_order.max(axis=0) - per_order.min(axis=0)
    (found,) = report([tmp_path]).document()["orders"]
    assert found["mopd"] == pytest.approx(spread.max())
    assert found["aopd"] == pytest.approx(spread.mean())
    assert (found["num_orders"], found["num_runs"], found["method"]) == (3, 6, "ness")


def test_other_tasks_are_no_other_order(tmp_path):
    made_up(tmp_path / "a", 1, order=[0, 1, 2])
    made_up(tmp_path / "b", 1, order=[3, 1, 2])
    assert report([tmp_path]).document()["orders"] == []


def test_the_docs_say_what_every_metric_is_in_the_words_of_the_code():
    text = DOCS.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    expected = [
        f"| `{m.name}` | {m.title} | {m.unit} | {m.formula} | {m.source} |" for m in METRICS
    ]
    assert lines == expected
    shown = metrics_table()
    assert [row.cells[0].text for row in shown.rows] == [m.name for m in METRICS]
    assert all(m.formula in row.cells[2].text for m, row in zip(METRICS, shown.rows, strict=True))
