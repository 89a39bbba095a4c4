"""Settings chosen by validation images: trials, those given up, the choice, a search gone on."""

from __future__ import annotations

import json

import pytest
import yaml
from fake_runs import make_run
from typed_commands import ness

from ness_cli.errors import DamagedError, SystemRefusedError
from ness_cli.settings.resolve import resolve
from ness_cli.settings.study import RangeSettings, SearchSettings
from ness_cli.stop_request import StopRequest
from ness_cli.study import folder
from ness_cli.study.engines.local import Local
from ness_cli.study.plan import StudyPlan
from ness_cli.study.search import JOURNAL, Search, best_of, results_in

SPACE = {"train.lr": [0.1, 0.2, 0.3], "methods.ness.eps1": {"low": 1e-4, "high": 0.5, "log": True}}


def validation(settings) -> float:
    """Return the accuracy that the fake runs have: best at a rate of 0.2 and a low eps1."""
    options = settings.options.model_dump()
    return 90 - 300 * abs(settings.train.lr - 0.2) - 20 * (options.get("eps1") or 0)


@pytest.fixture
def trained(monkeypatch):
    """Let runs appear without training; return the jobs: name and last task."""
    jobs = []

    def run(_engine, found, _watch) -> bool:
        for job in found:
            words = job.command
            own = [word for word in words if "=" in word and word != str(job.run)]
            seed = int(words[words.index("--seed") + 1])
            last = int(words[words.index("--until") + 1]) if "--until" in words else 5
            jobs.append((job.name, last))
            if "train.lr=0.3" in own:
                job.log.parent.mkdir(parents=True, exist_ok=True)
                job.log.write_text("error: too fast\n")
                job.exit_code.write_text("6\n")
                continue
            score = validation(resolve("digits", own, seed).settings)
            rows = [[score] * task for task in range(1, last + 1)]
            # On test images it is the other way round: whoever looked there would choose otherwise.
            test = [[100 - score] * task for task in range(1, last + 1)]
            make_run(job.run, own, seed, rows=rows, total=5, test=test)
        return True

    monkeypatch.setattr(Local, "run", run)
    return jobs


def write(folder, **changes):
    search = {"space": SPACE, "trials": 8, "tasks": 2, "random": 3, **changes}
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump({"base": "digits", "search": search}))
    return path


def tune(path, out, *more: object, code: int = 0):
    result = ness("tune", path, "--out", out, "--jobs", 2, "--device", "cpu", *more, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_the_best_by_validation_images_is_chosen_and_written_as_a_preset(trained, tmp_path):
    found = tune(write(tmp_path), tmp_path / "out")
    assert len(found["trials"]) == 8
    complete = [trial for trial in found["trials"] if trial["state"] == "complete"]
    best = max(complete, key=lambda trial: trial["score"])
    assert found["chosen"] == best["settings"]
    for trial in complete:
        expected = validation(resolve("digits", trial["settings"]).settings)
        assert trial["score"] == pytest.approx(expected)
    preset = resolve(str(tmp_path / "out" / "chosen.yaml"))
    assert preset.settings.train.lr == 0.2
    assert (
        preset.settings.flat().items()
        >= resolve("digits", best["settings"]).settings.flat().items()
    )
    # Trials are judged after two of the five tasks, and not trained further.
    assert max(last for _, last in trained) == 2
    assert not (tmp_path / "out" / "test.json").exists()


def test_trials_that_fail_are_listed_and_do_not_end_the_search(trained, tmp_path):
    found = tune(write(tmp_path, space={"train.lr": [0.1, 0.2, 0.3]}), tmp_path / "out")
    states = {trial["settings"][0]: (trial["state"], trial["why"]) for trial in found["trials"]}
    assert states["train.lr=0.3"] == ("failed", "too fast")
    assert states["train.lr=0.2"][0] == "complete"
    # Settings that are drawn again are not run again.
    assert len(set(trained)) == len(trained)


def test_the_folder_of_a_search_is_shown_and_listed_by_its_trials(trained, tmp_path):
    space = {"train.lr": [0.3]}
    found = tune(write(tmp_path, space=space), tmp_path / "out", "--trials", 2, code=4)
    assert found["error"]["what"].endswith("no trial could be judged")
    shown = json.loads(ness("study", "status", tmp_path / "out", "--json").stdout)
    assert [trial["state"] for trial in shown["search"]["trials"]] == ["failed", "failed"]
    assert shown["runs"] == []
    text = ness("study", "status", tmp_path / "out").stdout
    assert "2 of 2 trials" in text
    assert "runs done" not in text
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "study.json").write_text("{")
    (tmp_path / "poor").mkdir()
    (tmp_path / "poor" / "study.json").write_text('{"engine": "local"}')
    listed = ness("study", "ls", tmp_path, "--json")
    assert listed.exit_code == 0
    assert "poor is left out" in listed.stderr
    bad, search, poor = json.loads(listed.stdout)["studies"]
    assert "is damaged" in bad["problem"]
    assert "it lacks device" in poor["problem"]
    assert search["counts"]["failed"] == 2
    assert sum(search["counts"].values()) == 2


def test_trials_have_validation_images_whatever_the_space_says(trained, tmp_path, monkeypatch):
    commands, run = [], Local.run

    def remembering(engine, found, watch) -> bool:
        commands.extend(job.command for job in found)
        return run(engine, found, watch)

    monkeypatch.setattr(Local, "run", remembering)
    space = {"evaluate.validation": [False], "train.lr": [0.1]}
    tune(write(tmp_path, space=space, trials=1), tmp_path / "out")
    for command in commands:
        own = [word for word in command if word.startswith(("evaluate.", "train."))]
        assert resolve("digits", own).settings.evaluate.validation


def test_a_trial_that_lags_behind_is_not_trained_further(trained, tmp_path):
    space = {"train.lr": {"low": 0.01, "high": 0.29}}
    found = tune(write(tmp_path, space=space, trials=16), tmp_path / "out")
    pruned = [trial for trial in found["trials"] if trial["state"] == "pruned"]
    assert pruned
    for trial in pruned:
        name = trial["run"].rpartition("/")[2]
        assert (f"{name}/seed-1", 2) not in trained
        before = [t for t in found["trials"] if t["state"] == "complete"]
        assert trial["score"] < max(t["score"] for t in before)


def test_a_search_goes_on_with_more_trials_and_refuses_another_space(trained, tmp_path):
    out = tmp_path / "out"
    first = tune(write(tmp_path), out)
    more = tune(write(tmp_path), out, "--trials", 12)
    assert more["trials"][:8] == first["trials"]
    assert len(more["trials"]) == 12
    other = write(tmp_path, space={"train.lr": [0.1, 0.2]})
    result = ness("tune", other, "--out", out)
    assert result.exit_code == 4
    assert "has another space" in result.stderr


def test_a_search_that_was_stopped_ends_with_the_trials_of_one_that_was_not(
    trained, tmp_path, monkeypatch
):
    whole = tune(write(tmp_path), tmp_path / "whole")
    check, left = StopRequest.check, [2]

    def stop(self, where, resume):
        left[0] -= 1
        if left[0] == 0:
            self.request("SIGTERM")
        check(self, where, resume)

    monkeypatch.setattr(StopRequest, "check", stop)
    result = ness(
        "tune", write(tmp_path), "--out", tmp_path / "out", "--jobs", 2, "--device", "cpu"
    )
    assert result.exit_code == 75
    monkeypatch.setattr(StopRequest, "check", check)
    assert tune(write(tmp_path), tmp_path / "out")["trials"] == [
        {**trial, "run": trial["run"].replace("whole", "out")} for trial in whole["trials"]
    ]


def test_records_that_may_not_be_read_for_a_moment_are_no_verdict_on_a_trial(
    trained, tmp_path, monkeypatch
):
    expected = tune(write(tmp_path), tmp_path / "undisturbed")
    out, read, calls = tmp_path / "out", folder.read_state, []

    def refused(run):
        calls.append(run)
        if len(calls) == 4:
            raise SystemRefusedError(f"{run.run} cannot be read: Permission denied", "look why")
        return read(run)

    monkeypatch.setattr(folder, "read_state", refused)
    assert ness("tune", write(tmp_path), "--out", out).exit_code == 8
    assert len(calls) == 4
    found = tune(write(tmp_path), out)
    assert [(t["settings"], t["state"], t["scores"]) for t in found["trials"]] == [
        (t["settings"], t["state"], t["scores"]) for t in expected["trials"]
    ]


def test_accuracies_that_are_gone_by_the_second_look_end_it_with_the_way_to_get_them(
    trained, tmp_path, monkeypatch
):
    expected = tune(write(tmp_path), tmp_path / "undisturbed")
    out, look, gone = tmp_path / "out", StudyPlan.validation, []

    def lost(self, name, tasks):
        if not gone:
            gone.append(self.folder.run(name).task(tasks).record("accuracy"))
            gone[0].unlink()
        return look(self, name, tasks)

    monkeypatch.setattr(StudyPlan, "validation", lost)
    result = ness("tune", write(tmp_path), "--out", out, "--jobs", 2, "--device", "cpu")
    assert result.exit_code == DamagedError.exit_code
    assert f"{gone[0]}: its validation accuracies are gone" in result.stderr
    assert f"ness evaluate {gone[0].parent.parent} --task 1 --force" in result.stderr
    assert tune(write(tmp_path), out)["chosen"] == expected["chosen"]


def test_the_choice_is_tested_once_if_asked_and_every_look_is_counted(trained, tmp_path):
    out = tmp_path / "out"
    found = tune(write(tmp_path), out, "--test")
    score = validation(resolve("digits", found["chosen"]).settings)
    assert found["test"]["acc"]["mean"] == pytest.approx(100 - score)
    assert found["test"]["looks"] == 1
    assert [name for name, last in trained if last == 5] == [f"{_folder(found)}/seed-1"]
    again = tune(write(tmp_path), out, "--test")
    assert again["test"]["looks"] == 1  # the same choice


def test_a_dry_run_shows_the_trials_that_would_be_run_now_and_writes_nothing(trained, tmp_path):
    out = tmp_path / "out"
    arguments = ["tune", write(tmp_path), "--out", out, "--jobs", 2, "--device", "cpu"]
    shown = ness(*arguments, "--dry-run").stdout
    assert not out.exists()
    assert not trained
    found = tune(write(tmp_path), out, "--trials", 2)
    for trial in found["trials"]:  # those that are drawn in earnest
        assert f"--out {trial['run']}/seed-1 --seed 1" in shown
    before = (out / "search.journal").read_bytes()
    assert ness(*arguments, "--trials", 2, "--dry-run").stdout == "# nothing is left to run\n"
    queued = ness(*arguments, "--on", "slurm", "--dry-run").stdout
    assert queued.startswith("#!/bin/bash")
    assert "--array=0-1%2" in queued
    assert (out / "search.journal").read_bytes() == before


def test_the_trials_of_a_search_that_an_engine_goes_on_with_are_stopped(tmp_path, monkeypatch):
    out, asked = tmp_path / "out", []
    monkeypatch.setattr(Local, "run", lambda *_: False)  # handed over, nothing done yet
    monkeypatch.setattr(Local, "stop", lambda _, jobs: asked.extend(job.name for job in jobs))
    (trial,) = tune(write(tmp_path, trials=1), out)["trials"]
    assert trial["state"] == "running"
    shown = ness("study", "status", out)
    assert "0 of 1 trials" in shown.stdout
    assert f"ness tune {out}/study.yaml --out {out}" in shown.stderr
    assert ness("study", "stop", out).exit_code == 0
    assert asked == [trial["run"].rpartition("/")[2] + "/seed-1"]


def test_a_search_where_its_runs_cannot_be_read_is_refused(tmp_path):
    result = ness("tune", write(tmp_path), "--on", "sky", "engines.sky.bucket=b", "--dry-run")
    assert result.exit_code == 2
    assert "--on sky: its runs are in a bucket" in result.stderr


def _folder(found) -> str:
    chosen = next(t for t in found["trials"] if t["settings"] == found["chosen"])
    return chosen["run"].rpartition("/")[2]


# -- the search alone ----------------------------------------------------------------------------


def drawn(folder, number: int, *, reopened: bool) -> list[tuple[str, ...]]:
    """Return the settings of some trials of which each is told its own score."""
    space = {"a": RangeSettings(low=0.0, high=1.0), "b": RangeSettings(low=1, high=9)}
    settings = SearchSettings(space=space, random=2)
    search = Search(folder, settings)
    for _ in range(number):
        if reopened:
            search = Search(folder, settings)
        trial = search.draw()
        search.complete(trial.number, float(trial.settings[0].partition("=")[2]))
    return [each.settings for each in search.results()]


def test_a_search_that_is_opened_again_draws_what_it_would_have_drawn(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    found = drawn(one, 6, reopened=False)
    assert drawn(other, 6, reopened=True) == found
    assert len(set(found)) == 6
    whole = {each[1].partition("=")[2] for each in found}
    assert whole <= {str(n) for n in range(1, 10)}


def test_a_search_goes_on_from_any_part_of_its_journal(tmp_path):
    space = {"a": RangeSettings(low=0.0, high=1.0), "b": RangeSettings(low=1, high=9)}
    settings = SearchSettings(space=space, random=2)

    def finished(folder):
        search = Search(folder, settings)
        while True:
            for trial in search.results():
                if trial.state == "running":
                    score = float(trial.settings[0].partition("=")[2])
                    search.complete(trial.number, score)
            found = [(each.settings, each.state) for each in search.results()]
            if len(found) == 3:
                return found
            search.draw()

    expected = finished(tmp_path)
    journal = tmp_path / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    for count, last in enumerate(lines):
        for torn in (b"", last[: len(last) // 2], last[:-1], last[:9] + bytes(9)):
            journal.write_bytes(b"".join(lines[:count]) + torn)
            assert finished(tmp_path) == expected


def test_the_first_of_equal_trials_is_the_best_and_none_of_failed_ones(tmp_path):
    search = Search(tmp_path, SearchSettings(space={"a": [1, 2]}))
    for score in (None, 50.0, 50.0):
        trial = search.draw()
        if score is None:
            search.fail(trial.number, "broken")
            assert best_of(search.results()) is None
        else:
            search.report(trial.number, 1, score)
            search.complete(trial.number, score)
    best = best_of(search.results())
    assert best is not None
    assert best.number == 1


def test_a_search_goes_on_where_its_process_was_killed_in_the_middle_of_a_draw(tmp_path):
    settings = SearchSettings(space={"a": [1, 2], "b": [1, 2]})
    search = Search(tmp_path, settings)
    first = search.draw()
    search.complete(first.number, 50.0)
    search._study.ask()  # and nothing drawn
    with (tmp_path / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code": 5, "worker')
    before = (tmp_path / JOURNAL).read_bytes()
    assert [each.number for each in results_in(tmp_path)] == [0]
    assert (tmp_path / JOURNAL).read_bytes() == before
    again = Search(tmp_path, settings)
    assert (again.draw().number, again.draw().number) == (1, 2)
    assert results_in(tmp_path) == again.results()
    assert all(len(each.settings) == 2 for each in again.results())


def test_a_journal_that_does_not_read_back_is_called_damaged(tmp_path):
    settings = SearchSettings(space={"a": [1, 2]})
    Search(tmp_path, settings).draw()
    for damage in (b"{}\n", b"\0\0\n", b"[]\n{}\n"):
        (tmp_path / JOURNAL).write_bytes(damage + (tmp_path / JOURNAL).read_bytes())
        with pytest.raises(DamagedError, match=r"search\.journal is damaged"):
            Search(tmp_path, settings)
        with pytest.raises(DamagedError, match=r"search\.journal is damaged"):
            results_in(tmp_path)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"train.lrr": [1]}, "search.space.train.lrr: train.lrr: unknown key; did you mean"),
        ({"train.lr": {"low": 1, "hihg": 2}}, "hihg"),
        ({"train.lr": {"low": 2.0, "high": 1.0}}, "search.space.train.lr: low is above high"),
        ({"train.lr": {"low": 0, "high": 1.0, "log": True}}, "log needs numbers above 0"),
        ({"train.lr": {"low": -1.0, "high": 1.0}}, "search.space.train.lr: train.lr: -1"),
        ({}, "search.space: "),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_with_its_place(tmp_path, space, words):
    result = ness("tune", write(tmp_path, space=space), "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert words in result.stderr
    assert "tune.yaml, line" in result.stderr
