"""Reports on runs that are made up: records on disk, nothing trained."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from made_up_run import NUM_TASKS, made_up
from rich.console import Console
from scipy.stats import binomtest
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.errors import DamagedError
from ness_cli.stages.report import report, report_format


def shown(paths: list[Path], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(report(paths))
    return console.file.getvalue()


@pytest.fixture(scope="module")
def twelve(tmp_path_factory) -> Path:
    parent = tmp_path_factory.mktemp("a-folder-with-a-rather-long-name") / "runs"
    for seed in range(1, 5):
        made_up(parent / "digits-of-ten-permutations" / f"seed-{seed}", seed)
        made_up(parent / "bounded" / f"seed-{seed}", seed, scaling="bounded")
        made_up(parent / "gpm" / f"seed-{seed}", seed, method="gpm")
    return parent


@pytest.mark.parametrize("width", [80, 120])
def test_twelve_runs_fit_and_lose_nothing(twelve, width):
    text = shown([twelve], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    table = text[text.index("Task-incremental") : text.index("Mean ±")]
    # Each run on one line, or in as many as its folders; its numbers on the first.
    assert table.count("seed-") == 12
    assert table.count("10/10") == 12
    assert table.count("digits-of-ten-") == 4
    unfolded = text.replace("\n", "")
    assert all(str(path) in unfolded for path in twelve.iterdir())


def test_names_of_runs_use_the_room_of_tables_without_methods(twelve):
    text = shown([twelve], 80)
    tables = text[text.index("What is kept") :]
    names = [line.split()[0] for line in tables.splitlines() if "/seed-" in line]
    assert names.count("bounded/seed-1") == names.count("gpm/seed-4") == 3


def test_a_run_that_took_no_step_has_no_times_and_bytes(tmp_path):
    made_up(tmp_path / "run", 1)
    for path in tmp_path.glob("run/task-*/*.json"):
        path.unlink()
    lines = shown([tmp_path / "run"], 120).splitlines()
    (below,) = [number for number, line in enumerate(lines) if line.startswith("Time and bytes")]
    assert lines[below + 2].split()[1:] == ["-"] * 5


def test_the_method_column_tells_hard_from_bounded(twelve):
    lines = shown([twelve], 120).splitlines()
    (bounded,) = [line for line in lines if "bounded/seed-1 " in line and "10/10" in line]
    assert "ness bounded" in bounded
    (hard,) = [line for line in lines if "permutations/seed-1 " in line and "10/10" in line]
    assert "bounded" not in hard
    groups = {group.name for group in report([twelve]).groups}
    assert groups == {"mine, ness", "mine, ness bounded", "mine, gpm"}
    labels = {run["method_label"] for run in report([twelve]).document()["runs"]}
    assert labels == {"ness", "ness bounded", "gpm"}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tasks_are_called_by_their_classes_and_have_margins(twelve, width):
    text = shown([twelve / "gpm" / "seed-1"], width)
    assert all(f"animal-{t}" in text for t in range(NUM_TASKS))
    assert text.count("±95%: half of the 95 % Wilson interval") == 1
    one = report([twelve / "gpm" / "seed-1"]).document()["runs"][0]
    interval = binomtest(39, 40).proportion_ci(0.95, method="wilson")
    half = 100 * (interval.high - interval.low) / 2
    assert one["margins"] == pytest.approx([half] * NUM_TASKS)
    assert one["acc_margin"] == pytest.approx(half / NUM_TASKS**0.5)
    assert one["tasks"][1] == {"number": 2, "label": "animal-1, plant-1", "test_images": 40}
    assert f"{half:.1f}" in text


def test_a_run_and_its_copy_are_noted_and_have_no_deviation(tmp_path):
    for name in ("a", "b"):
        made_up(tmp_path / name, 1)
    text = shown([tmp_path], 200)
    assert "Mean ±" not in text
    assert f"Note: {tmp_path / 'a'} and {tmp_path / 'b'} are both seed 1" in text
    assert "Every experiment here is a single seed." in text


KEPT = {"model_bytes": 26 * 10**6, "memory_bytes": 10**9, "image_bytes": 15 * 10**5}
KEPT |= {"task_numbers": 1234567, "trained_numbers": 9200}


def _costs(folder: Path) -> dict[str, dict[str, object]]:
    runs = report([folder]).document()["runs"]
    return {Path(run["path"]).name: run["costs"] for run in runs}


def _steps(milliseconds: float) -> dict[str, object]:
    """Return what training records of a hundred steps, on a machine."""
    machine = {"device": "cpu", "threads": 1, "processes": 1}
    return {"train_seconds": milliseconds / 10, "steps": 100, "kept": KEPT, **machine}


def test_what_is_kept_and_what_a_step_costs_stand_in_every_report(tmp_path):
    made_up(tmp_path / "plain", 1, method="finetune", more=_steps(10))
    made_up(tmp_path / "hat", 1, method="hat", settings={"train.lr": 7.0}, more=_steps(15))
    sam = {"train.sam.tasks": "all"}
    made_up(tmp_path / "er", 1, method="er", settings=sam, more=_steps(40))
    made_up(tmp_path / "wide", 1, settings={"net.hidden": [9]}, more=_steps(15))
    made_up(tmp_path / "threads", 1, more={**_steps(15), "threads": 2})
    made_up(tmp_path / "old", 1)
    found = _costs(tmp_path)
    ratios = {name: own["step_ratio"] for name, own in found.items()}
    # Optimisers may differ; network and machine may not.
    expected = {"plain": 1, "hat": 1.5, "er": 4, "wide": None, "threads": None, "old": None}
    assert ratios == pytest.approx(expected)
    assert found["hat"]["step_seconds"] == pytest.approx(0.015)
    facts = ("needs_task", "passes", *KEPT)
    assert [found["hat"][fact] for fact in facts] == [True, 1, *KEPT.values()]
    assert [found["er"][fact] for fact in facts[:2]] == [False, 4]  # replay, and SAM with it
    # A version that counted nothing but one number.
    assert [found["old"][fact] for fact in facts[2:]] == [None, 10**9, None, None, None]
    text = shown([tmp_path], 100)
    rows = [line.split("  ") for line in text.splitlines() if line.startswith("er ")]
    words = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert ["er", "26.0 MB", "1.0 GB", "1.5 MB", "1.2 M", "9.2 k"] in words
    assert ["er", "40.0 ms", "4.00", "4", "no"] in words


def test_a_method_that_is_not_installed_keeps_what_its_records_say(tmp_path):
    made_up(tmp_path / "theirs", 1, method="of-another-package", more=_steps(15))
    (found,) = _costs(tmp_path).values()
    assert (found["needs_task"], found["passes"]) == (None, None)
    assert found["task_numbers"] == KEPT["task_numbers"]
    assert " - " in shown([tmp_path], 80)


def test_a_damaged_run_among_others_is_left_out_and_named(tmp_path):
    for seed in (1, 2, 3, 4):
        made_up(tmp_path / str(seed), seed)
    (tmp_path / "2" / "task-03" / "accuracy.json").write_text('{"task_incremental": [9')
    (tmp_path / "3" / "run.json").write_text("{}")
    (tmp_path / "4" / "stream.json").write_text('{"tasks": [{}]}')
    found = report([tmp_path])
    assert [run.path.name for run in found.runs] == ["1"]
    assert len(found.damaged) == 3
    assert all(str(tmp_path / n) in line for n, line in zip("234", found.damaged, strict=True))
    text = " ".join(shown([tmp_path], 200).split())
    assert text.count("Left out: ") == 3
    assert found.document()["damaged"] == list(found.damaged)
    with pytest.raises(DamagedError, match=r"accuracy\.json is damaged"):
        report([tmp_path / "2"])


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("run.json", "identity", None),
        ("run.json", "num_tasks", "ten"),
        ("task-02/subspace.json", "layers", None),
        ("task-02/train.json", "outputs", "x"),
        ("task-02/accuracy.json", "seconds", "1 s"),
    ],
)
def test_what_no_version_wrote_is_damage_and_no_crash(tmp_path, file, key, value):
    for seed in (1, 2):
        made_up(tmp_path / str(seed), seed)
    path = tmp_path / "2" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    found = report([tmp_path])
    assert [run.path.name for run in found.runs] == ["1"]
    (line,) = found.damaged
    assert f"{path} is damaged: {key} is {value!r}" in line


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 5), (["--format", "csv"], 5), (["--min-acc", "99"], 3), (["--min-acc", "9"], 5)],
)
def test_the_exit_code_tells_of_damage_and_a_gate_before_it(tmp_path, arguments, code):
    for seed in (1, 2):
        made_up(tmp_path / str(seed), seed)
    (tmp_path / "2" / "run.json").write_text("nonsense")
    done = CliRunner().invoke(app, ["report", str(tmp_path), *arguments])
    assert done.exit_code == code
    assert "".join(done.output.split()).count("run.jsonisdamaged") == 1


def test_a_record_without_what_every_run_has_is_damage(tmp_path):
    path = made_up(tmp_path / "run", 1) / "run.json"
    path.write_text("{}")
    with pytest.raises(DamagedError, match=r"run\.json is damaged: it lacks fingerprint, identity"):
        report([path.parent])


def test_forks_are_marked_and_count_for_no_seed_of_their_own(tmp_path):
    made_up(tmp_path / "b-run", 1)
    for name, method in (("a-fork", "ness"), ("c-changed", "gpm")):
        fork = made_up(tmp_path / name, 1, method=method)
        record = json.loads((fork / "run.json").read_text())
        about = {"from": str(tmp_path / "b-run"), "after": 1, "changed": []}
        forked = {**about, "training_fingerprint": "f"}
        (fork / "run.json").write_text(json.dumps({**record, "forked": forked}))
    accuracy = tmp_path / "a-fork" / "task-10" / "accuracy.json"
    record = json.loads(accuracy.read_text())
    accuracy.write_text(json.dumps({**record, "task_incremental": [50.0] * 10}))
    found = report([tmp_path])
    group = found.groups[0]
    assert [run.path.name for run in group.independent] == ["b-run"]
    assert group.spread("acc").std is None
    text = shown([tmp_path], 200)
    assert "a fork shares its first training: no independent seeds" in " ".join(text.split())
    lines = [line for line in text.splitlines() if "10/10" in line]
    assert [", fork" in line for line in lines] == [True, False, True]
    runs = found.document()["runs"]
    assert [run["forked_from"] is None for run in runs] == [False, True, False]


def test_a_run_of_a_package_that_is_not_installed_is_reported_beside_others(tmp_path):
    made_up(tmp_path / "theirs", 1, method="of-another-package")
    made_up(tmp_path / "ours", 1)
    assert len(report([tmp_path]).groups) == 2


@pytest.fixture(scope="module")
def fifteen(tmp_path_factory) -> Path:
    """Three methods of three seeds, and every other kind of run that there is beside them."""
    parent = tmp_path_factory.mktemp("runs") / "of-all-kinds"
    for seed in (1, 2, 3):
        for method in ("ness", "gpm", "finetune"):
            made_up(parent / method / f"seed-{seed}", seed, method=method, more=_steps(10 + seed))
    made_up(parent / "joint", 1, method="joint")
    order = [9, *range(9)]
    settings = {"data.task_order": [t + 1 for t in order]}
    made_up(parent / "reordered", 1, method="gpm", order=order, settings=settings)
    unfinished = made_up(parent / "unfinished", 4, method="gpm")
    for path in unfinished.glob("task-10/*.json"):
        path.unlink()
    fork = made_up(parent / "fork", 1, eps1=0.25)
    record = json.loads((fork / "run.json").read_text())
    about = {"from": "ness", "after": 1, "changed": ["methods.ness.eps1"], "fingerprints": {}}
    forked = {**about, "training_fingerprint": "f"}
    (fork / "run.json").write_text(json.dumps({**record, "forked": forked}))
    earlier = made_up(parent / "earlier", 1, method="ewc")
    (earlier / "stream.json").unlink()  # the first versions described no stream
    broken = made_up(parent / "broken", 1)
    (broken / "task-02" / "subspace.json").write_text("{")
    return parent


@pytest.mark.parametrize("width", [80, 120])
def test_runs_of_all_kinds_fit_side_by_side(fifteen, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(report([fifteen], against=fifteen / "finetune"))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert not [line for line in lines if "…" in line]
    assert [line for line in lines if line.startswith("Difference from finetune")]
    assert [line for line in lines if line.startswith("Disparity between orders")]
    # Every run stands in one line, or in as many as its name needs: never in the middle of a word.
    assert not [line for line in lines if re.match(r"^(-?\d|eed)\b *$", line)]


@pytest.mark.parametrize("name", ["csv", "json", "latex", "markdown", "text"])
def test_runs_of_all_kinds_have_a_place_in_every_format(fifteen, name):
    text = report_format(name).render(report([fifteen], against=fifteen / "finetune"))
    kinds = ("reordered", "unfinished", "fork", "earlier", "joint")
    assert all(kind in text for kind in kinds)
    assert ("broken" in text) is (name != "csv")
