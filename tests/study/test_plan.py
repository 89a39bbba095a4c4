"""Which runs a study has: grids, choices by validation images, more seeds for the best."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_runs import make_run, write_study

from ness_cli.errors import SettingsError
from ness_cli.settings import study, yaml_files
from ness_cli.settings.resolve import resolve
from ness_cli.settings.study_files import read_study
from ness_cli.study.choice import CHOSEN, TEST, TRIALS
from ness_cli.study.folder import StudyFolder
from ness_cli.study.plan import StudyPlan, rows_named
from ness_cli.study.search import JOURNAL
from ness_cli.study.shared_start import refuse_unshared

OWN_FILES = (
    StudyFolder(Path()).record.name,
    StudyFolder(Path()).settings.name,
    *(JOURNAL, CHOSEN, TRIALS, TEST),
)
VALIDATED = "evaluate.validation=true"


def plan_of(folder, study_rows=None, *, wanted=(), **changes) -> StudyPlan:
    out = write_study(folder, study_rows, **changes)
    return StudyPlan(read_study(folder / "study.yaml"), StudyFolder(out), rows=tuple(wanted))


def names(plan: StudyPlan) -> list[str]:
    return [run.name + (f" until {run.until}" if run.until else "") for run in plan.runs()]


def test_a_grid_multiplies_out_and_its_rows_are_named_after_what_differs(tmp_path):
    grid = {"method.name": ["ness", "finetune"], "train.lr": [0.1, 1e-3]}
    plan = plan_of(tmp_path, grid=grid)
    assert names(plan) == [
        f"{method},lr={lr}/seed-1" for method in ("ness", "finetune") for lr in ("0.1", "0.001")
    ]
    last = plan.resolved["finetune,lr=0.001"].settings
    assert (last.method.name, last.train.lr) == ("finetune", 0.001)


def test_rows_and_a_grid_are_multiplied_with_each_other(tmp_path):
    rows = {"a": ["train.epochs=1"], "b": ["train.epochs=2"]}
    plan = plan_of(tmp_path, study_rows=rows, grid={"train.lr": [0.1, 0.2]})
    assert list(plan.resolved) == ["a,lr=0.1", "a,lr=0.2", "b,lr=0.1", "b,lr=0.2"]
    assert plan.resolved["b,lr=0.2"].settings.train.epochs == 2


def test_two_combinations_of_one_name_are_refused(tmp_path):
    with pytest.raises(SettingsError, match="two combinations would have one name"):
        plan_of(tmp_path, grid={"net.hidden": [[8], ["8"]]})


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([["methods.ewc.strength=1"], ["methods.l2_sp.strength=1"]], "two of them would have one"),
        ([["train.lr=0.1"], []], "one of several is empty"),
    ],
)
def test_choices_that_would_share_a_folder_are_refused(tmp_path, choices, words):
    with pytest.raises(SettingsError, match=f"choices.a: {words}"):
        plan_of(tmp_path, {"a": []}, choices={"a": choices})


def test_the_runs_of_hundreds_of_rows_are_listed_by_multiplying_the_grid_once(
    tmp_path, monkeypatch
):
    grid = {"train.epochs": list(range(1, 26)), "train.batch_size": list(range(1, 9))}
    plan = plan_of(tmp_path, grid=grid)
    named = []
    monkeypatch.setattr(study, "short", lambda setting: named.append(setting))
    assert len(plan.runs()) == 200
    assert not named


def test_the_base_is_read_once_and_every_row_is_as_if_it_were_alone(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("extends: digits\ntrain: {batch_size: 32}\n")
    grid = {"train.lr": [0.1, 0.2], "method.name": ["ness", "adam-nscl", "finetune"]}
    study = plan_of(tmp_path, base="mine.yaml", grid=grid, seeds=[3]).study
    alone = {own.name: resolve(study.base, own.settings, 3) for own in study.variants()}
    files, read = [], yaml_files.read
    monkeypatch.setattr(yaml_files, "read", lambda path: files.append(path) or read(path))
    assert study.resolved() == alone
    assert len(files) == 3  # itself, twice for what it says about itself, and digits


def test_a_base_that_is_not_there_is_named_once_with_its_line(tmp_path):
    with pytest.raises(SettingsError, match=r"^base: unknown preset 'digit'.*line 1\)"):
        plan_of(tmp_path, {"a": [], "b": []}, base="digit").study.resolved()


CHOICES = {
    "study_rows": {"ness": ["method.name=ness"], "plain": ["method.name=finetune"]},
    "settings": [VALIDATED],
    "choices": {"ness": [["train.lr=0.1"], ["train.lr=0.2"]]},
    "choose": {"tasks": 2, "seed": 1},
    "again": {"best": 1, "seeds": [7], "but": ["plain"]},
}


def done(plan: StudyPlan, name: str, *rows: list[float], total: int = 3) -> None:
    variant, _, seed = name.rpartition("/seed-")
    settings = next(v.settings for v in plan.study.variants() if v.name == variant)
    make_run(plan.folder.run(name).path, settings, int(seed), rows=rows, total=total)


def test_a_choice_is_made_by_validation_after_the_first_tasks_and_that_run_goes_on(tmp_path):
    plan = plan_of(tmp_path, **CHOICES)
    candidates = ["ness/lr=0.1/seed-1 until 2", "ness/lr=0.2/seed-1 until 2"]
    assert names(plan) == [*candidates, "plain/seed-1"]
    done(plan, "ness/lr=0.1/seed-1", [90], [80, 60])  # 70 after two tasks
    assert plan.chosen("ness") is None
    done(plan, "ness/lr=0.2/seed-1", [20], [70, 72])  # 71
    assert names(plan) == [candidates[0], "ness/lr=0.2/seed-1", "plain/seed-1"]


def test_the_best_row_gets_more_seeds_once_all_are_through(tmp_path):
    rows = {"a": [], "b": ["train.lr=0.1"], "plain": ["method.name=finetune"]}
    again = {"best": 1, "seeds": [7, 8], "but": ["plain"]}
    plan = plan_of(tmp_path, rows, settings=[VALIDATED], again=again)
    first = ["a/seed-1", "b/seed-1", "plain/seed-1"]
    done(plan, "a/seed-1", [50], total=1)
    done(plan, "plain/seed-1", [99], total=1)
    assert names(plan) == first
    done(plan, "b/seed-1", [60], total=1)
    assert names(plan) == [*first, "b/seed-7", "b/seed-8"]
    assert names(plan_of(tmp_path, rows, settings=[VALIDATED], again=again, wanted=["a"])) == [
        "a/seed-1"
    ]


def test_a_choice_without_validation_images_is_refused_with_its_place(tmp_path):
    plan = plan_of(tmp_path, **{**CHOICES, "settings": []})
    with pytest.raises(SettingsError, match=r"rows.ness: a choice needs evaluate.validation=true"):
        plan.study.resolved()


# -- shared tasks --------------------------------------------------------------------------------


def test_rows_that_share_a_task_may_not_differ_in_what_its_training_reads(tmp_path):
    rows = {"a": [], "b": ["methods.ness.eps1=3e-3"], "other": ["method.name=finetune"]}
    refuse_unshared(plan_of(tmp_path, rows, fork_after=1))
    with pytest.raises(SettingsError, match=r"rows.c: fork_after=1: train.lr decides .* with a \("):
        refuse_unshared(plan_of(tmp_path, {**rows, "c": ["train.lr=0.5"]}, fork_after=1))
    with pytest.raises(SettingsError, match=r"rows.b: fork_after=2: methods.ness.eps1 decides"):
        refuse_unshared(plan_of(tmp_path, rows, fork_after=2))


# -- what is wrong with a file -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        *((own, "what a study calls a file or folder of its own") for own in OWN_FILES),
        *((own, "what a study calls") for own in ("Study.JSON", "plots", "seed-1", "table.html")),
        ("a.", "ends with a dot, which some disks drop"),
        ("x" * 256, "255 bytes at most, not 256"),
        ("é" * 128, "255 bytes at most, not 256"),
        ("A", "may take 'A' and 'a' for one folder"),
        ("\u212b", "may take '\u212b' and 'å' for one folder"),
        ("..", "should be a folder's name"),
        ("", "should be a folder's name"),
    ],
)
def test_a_row_that_cannot_be_a_folder_of_its_own_on_every_disk_is_refused(tmp_path, name, words):
    with pytest.raises(SettingsError, match=rf"rows\..*{words}.*\(study.yaml, line \d+\)"):
        plan_of(tmp_path, {"a": [], "å": [], name: []})
    plan_of(tmp_path, {"a": [], "x" * 255: [], "seeds-1": [], "study": []})


def test_rows_of_a_grid_and_values_of_a_search_are_folders_too(tmp_path):
    long = {f"{'x' * 200}.{key}": [1] for key in "ab"}
    with pytest.raises(SettingsError, match=r"grid: .* 255 bytes at most"):
        plan_of(tmp_path, grid={f"{'x' * 255}": [1]})
    plan_of(tmp_path, grid=long)  # named after the last word of a setting
    for values, words in (([[8], ["8"]], "two values would"), (["a", "A"], "one folder")):
        with pytest.raises(SettingsError, match=f"search.space.net.name: .*{words}"):
            plan_of(tmp_path, search={"space": {"net.name": values}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sedes": [1]}, r"sedes: unknown key; did you mean 'seeds'\? \(study.yaml, line \d+\)"),
        ({"seeds": [1, 1]}, r"seeds: \[1,1\] names a seed twice \(study.yaml, line"),
        ({"engines": {"locl": {}}}, r"engines.locl: unknown key; did you mean 'engines.local'\?"),
        (
            {"engines": {"local": {"per_gp": 2}}},
            r"engines.local.per_gp: unknown key; did you mean 'engines.local.per_gpu'\?",
        ),
        ({"study_rows": {"a/b": []}}, r"'a/b' should be a folder's name"),
        ({"choices": {"ab": [[]]}, "study_rows": {"abc": []}}, r"choices: no such row 'ab'"),
        ({"study_rows": {}}, "a study needs some, or a grid"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_place(tmp_path, changes, words):
    with pytest.raises(SettingsError, match=words):
        plan_of(tmp_path, **{"study_rows": {"a": []}, **changes})


def test_all_rows_that_cannot_be_run_are_named_with_their_lines(tmp_path):
    rows = {"good": [], "bad": ["train.lrr=1"], "worse": ["train.lr=-1"]}
    with pytest.raises(SettingsError) as caught:
        plan_of(tmp_path, rows).study.resolved()
    _, bad, worse = str(caught.value).splitlines()
    assert "rows.bad: train.lrr: unknown key; did you mean 'train.lr'" in bad
    assert bad.endswith("(study.yaml, line 6)")
    assert "rows.worse: train.lr: -1 should be greater than 0 (study.yaml, line 8)" in worse


def test_a_row_that_is_not_there_is_named_with_what_may_be_meant(tmp_path):
    with pytest.raises(SettingsError, match="--rows: no such row 'hart'; did you mean 'hard'"):
        plan_of(tmp_path, {"hard": []}, wanted=["hart"])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), ["a", "ness,lr=0.1", "ness,lr=0.2"]),
        (("ness,lr=0.2",), ["ness,lr=0.2"]),
        (("ness*",), ["ness,lr=0.1", "ness,lr=0.2"]),
        (("*0.2,a",), ["a", "ness,lr=0.2"]),
    ],
)
def test_rows_are_named_by_their_names_or_by_patterns(words, found):
    assert rows_named(words, ["a", "ness,lr=0.1", "ness,lr=0.2"]) == found
