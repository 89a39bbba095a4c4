"""What follows a run: each event once, in order, whatever happened to the process before."""

from __future__ import annotations

import csv
import json
import sys
from types import SimpleNamespace

import pytest
from followed import Server, made_up
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ness_cli import registry
from ness_cli.errors import SettingsError
from ness_cli.results.events import read_events
from ness_cli.settings.resolve import resolve
from ness_cli.settings.sections import TrackSettings
from ness_cli.stages.tracking import Tracking, refuse_missing
from ness_cli.trackers.base import TrackedRun

SERVICES = {"wandb": Server.wandb, "trackio": Server.wandb, "mlflow": Server.mlflow}


def _tracker(name, run):
    kind = registry.load_class("ness_cli.trackers", name, setting="track.to")
    memory = run.path / "track" / f"{name}.json"
    return kind(TrackedRun(run.path, memory, "a", "ness", {"train.lr": 0.1, "long": "x" * 900}))


def _followed(name, run):
    """Follow a run for the life of one process."""
    tracker = _tracker(name, run)
    tracker.update(read_events(run))
    return tracker


# -- what is told --------------------------------------------------------------------------------


def test_events_are_epochs_what_stays_open_and_accuracies_over_epochs_of_all_tasks(tmp_path):
    events = read_events(made_up(tmp_path, num_done=2))
    assert [event.step for event in events] == [1, 2, 2, 2, 3, 4, 4, 4]
    assert events[0].values == {"task": 1, "epoch": 1, "train/lr": 0.1, "train/loss": 2.0} | {
        "train/seconds": 1.0
    }
    assert events[2].values == {"task": 1, "subspace/open_percent": 25.0}
    last = events[-1].values
    assert (last["test/task-01"], last["test/task-02"]) == (80.0, 90.0)
    assert (last["test/acc"], last["test/bwt"], last["test/forgetting"]) == (85.0, -10.0, 10.0)
    times = [event.time for event in events]
    assert times[1] - times[0] == 1.0
    assert times == sorted(times[:4]) * 2


def test_a_task_in_training_is_told_and_what_comes_after_it_is_not(tmp_path):
    run = made_up(tmp_path, num_done=2)
    (tmp_path / "task-01" / "train.json").unlink()  # it is trained anew
    assert [event.values["task"] for event in read_events(run)] == [1, 1]


def test_accuracies_of_stale_steps_are_left_out(tmp_path):
    run = made_up(tmp_path, num_done=1)
    record = json.loads((tmp_path / "task-01" / "accuracy.json").read_text())
    (tmp_path / "task-01" / "accuracy.json").write_text(json.dumps({**record, "fingerprint": "o"}))
    assert not any("test/acc" in event.values for event in read_events(run))


# -- files ---------------------------------------------------------------------------------------


def test_csv_and_jsonl_say_the_same_and_are_made_anew_from_the_run(tmp_path):
    run = made_up(tmp_path, num_done=2)
    for name in ("csv", "jsonl"):
        (tmp_path / f"events.{name}").write_text("something else\n")
        _followed(name, run)
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    rows = list(csv.DictReader((tmp_path / "events.csv").read_text().splitlines()))
    assert [{k: float(v) for k, v in row.items() if v} for row in rows] == lines
    assert lines == [{"step": e.step, **e.values} for e in read_events(run)]


def _scalars(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def _expected(run):
    found = {}
    for event in read_events(run):
        for name, value in event.values.items():
            found.setdefault(name, []).append((event.step, value))
    return found


def test_tensorboard_has_every_event_once_over_several_processes(tmp_path):
    run = made_up(tmp_path, num_done=0, epochs=1)
    tracker = _followed("tensorboard", run)
    tracker.update(read_events(made_up(tmp_path, num_done=0, epochs=2)))
    assert _scalars(tmp_path / "tensorboard") == _expected(run)
    # The process is killed here, and what it has told is repeated by the next one.
    _followed("tensorboard", made_up(tmp_path, num_done=0, epochs=1)).close()
    made_up(tmp_path, num_done=2)
    _followed("tensorboard", run).close()
    assert _scalars(tmp_path / "tensorboard") == _expected(run)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    tracker.close()


# -- services ------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    """A server whose packages can be imported."""
    server = Server()

    def install() -> None:
        for name, package in SERVICES.items():
            module = package(server)
            module.__spec__ = SimpleNamespace(name=name)
            monkeypatch.setitem(sys.modules, name, module)

    install()
    return server


def _logged(server):
    (events,) = server.runs.values()
    return [
        {k: v for k, v in values.items() if k not in ("epochs", "event")} for _, values in events
    ]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_gets_every_event_once_and_in_order_over_several_processes(
    name, server, tmp_path, capsys
):
    run = made_up(tmp_path, num_done=0, epochs=1)
    _followed(name, run)  # and killed
    _followed(name, made_up(tmp_path, num_done=0, epochs=0))  # resumed before its first epoch
    made_up(tmp_path, num_done=1)
    _followed(name, run).close()
    made_up(tmp_path, num_done=2)
    tracker = _followed(name, run)
    tracker.update(read_events(run))
    tracker.close()
    assert _logged(server) == [event.values for event in read_events(run)]
    assert set(server.finished) == set(server.runs)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_lost_in_a_kill_is_told_again_and_what_it_has_is_not(name, server, tmp_path):
    run = made_up(tmp_path, num_done=2)
    _followed(name, run)
    memory = tmp_path / "track" / f"{name}.json"
    known = json.loads(memory.read_text())
    assert known["logged"] == len(read_events(run))
    del next(iter(server.runs.values()))[3:]
    _followed(name, run)
    memory.write_text(json.dumps({**known, "logged": 5}))
    _followed(name, run)
    assert _logged(server) == [event.values for event in read_events(run)]


def test_wandb_plots_over_epochs(server, tmp_path):
    tracker = _followed("wandb", made_up(tmp_path, num_done=1))
    assert tracker._theirs.defined == ["* over epochs"]
    assert [values["epochs"] for _, values in tracker._theirs.logged] == [1, 2, 2, 2, 3, 4]


# -- in a run ------------------------------------------------------------------------------------


def _context(run, notes, *to, folder=None):
    track = TrackSettings(to=to, folder=folder)
    settings = SimpleNamespace(track=track, identity=lambda: {"train.lr": 0.1})
    progress = SimpleNamespace(note=notes.append)
    return SimpleNamespace(
        run=run,
        run_record={"fingerprint": "abcdefgh123"},
        settings=settings,
        workplace=SimpleNamespace(progress=progress),
    )


def test_a_server_that_fails_costs_one_line_and_the_others_go_on(server, tmp_path):
    run, notes = made_up(tmp_path, num_done=1), []
    server.is_down = True
    tracking = Tracking(_context(run, notes, "wandb", "csv"))
    tracking.update()
    made_up(tmp_path, num_done=2)
    tracking.update()
    tracking.close()
    (note,) = notes
    assert "wandb failed" in note
    assert note.endswith("the server is down")
    assert (tmp_path / "events.csv").read_text().count("\n") == 1 + len(read_events(run))
    server.is_down = False
    tracking.update()  # the next command
    assert _logged(server) == [event.values for event in read_events(run)]


def test_a_record_that_is_damaged_is_the_step_s_to_refuse(tmp_path):
    run, notes = made_up(tmp_path, num_done=1), []
    (tmp_path / "task-01" / "train.json").write_text("{")
    Tracking(_context(run, notes, "csv")).update()
    assert len(notes) == 1
    assert "train.json is damaged" in notes[0]


def test_runs_that_share_a_folder_have_files_of_their_own(tmp_path):
    run, shared = made_up(tmp_path / "digits" / "seed-1"), tmp_path / "shared"
    Tracking(_context(run, [], "csv", folder=str(shared))).update()
    assert (shared / "digits-seed-1-abcdefgh" / "events.csv").exists()


def test_a_package_that_is_missing_is_named_before_anything_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refuse_missing(TrackSettings(to=("csv", "jsonl")))
    with pytest.raises(SettingsError, match="wandb needs the package wandb") as refused:
        refuse_missing(TrackSettings(to=("csv", "wandb")))
    assert "pip install wandb" in refused.value.remedy
    assert "track.to=[csv]" in refused.value.remedy


def test_an_unknown_tracker_is_refused_with_the_nearest_name():
    with pytest.raises(SettingsError, match="did you mean 'wandb'"):
        resolve("digits", ["track.to=[wand]"])


def test_who_follows_a_run_is_no_part_of_what_it_is():
    plain = resolve("digits").settings
    assert resolve("digits", ["track.to=[csv]", "track.project=p"]).settings.fingerprint() == (
        plain.fingerprint()
    )
