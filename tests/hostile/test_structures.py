"""JSON of another structure in the place of records: a clear line, and never a traceback.

Records without a hash of their own are read, as earlier versions wrote none: these are tried.
"""

from __future__ import annotations

import json
import random
import shutil

import pytest
import yaml
from faults.damaged import SMALL, ness
from faults.scenes import _SEARCH, _STUDY
from hostile.structures import OTHER_VALUES, changed, places, structures
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_run import made_up

from ness_cli.errors import DamagedError, NessError
from ness_cli.files import read_json
from ness_cli.lease import Lease
from ness_cli.record_shapes import RUN, STEP, STREAM, STUDY
from ness_cli.results.live_status import read_live
from ness_cli.study.journal import Journal

RECORDS = ("run.json", "stream.json", "task-02/train.json", "task-02/subspace.json")
_FOUND = (4, 5)
_KEYS = st.sampled_from(("layers", "tasks", "key", "seed", "extensions", "outputs", "rows", "x"))
_ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", [*RECORDS, "task-02/accuracy.json"])
def test_a_record_of_another_structure_is_read_or_called_damaged(name, tmp_path):
    run = made_up(tmp_path / "run", 1, order=range(2))
    path = run / name
    more = {"layers": [{"layer": "a", "rank": 1, "d": 2}], "output_change": {"a": {"rho": 0.5}}}
    document = {**json.loads(path.read_text()), **(more if "task" in name else {})}
    outcomes = set()
    for what, text in structures(document, random.Random(name), 30):
        path.write_text(text)
        found = _refusal(lambda: read_live(run).headline)
        assert found is None or (str(path) in found.what and found.remedy), what
        outcomes.add(type(found))
    assert DamagedError in outcomes


def _refusal(read):
    """Return the error that says in a line what is wrong, ``None`` if nothing is."""
    try:
        read()
    except NessError as error:
        return error
    return None


@settings(max_examples=50, deadline=None)
@given(_ANY_JSON, st.sampled_from([RUN, STEP, STREAM, STUDY]))
def test_any_json_has_a_shape_or_not(value, shape):
    assert isinstance(shape(value, ""), str)


def test_a_shape_names_the_place():
    step = {"layers": [{"layer": "fc1", "rank": 1, "d": 2}, {"layer": "fc2", "rank": 1}]}
    assert STEP(step, "") == "layers.1 lacks d"
    assert STEP({"layers": [{"layer": "fc1", "rank": True, "d": 2}]}, "") == "layers.0.rank is True"
    assert STEP({"seconds": float("nan")}, "") == "seconds is nan"
    assert STEP({"seconds": 10**400}, "").startswith("seconds is 1000")
    assert STEP({"seconds": 1.5, "of a later version": [None]}, "") == ""


def test_a_document_without_a_seal_is_looked_at(tmp_path):
    path = tmp_path / "a.json"
    for text in ('{"a": NaN}', '{"a": ' + "[" * 10**5 + "]" * 10**5 + "}", '{"seconds": []}'):
        path.write_text(text)
        with pytest.raises(DamagedError):
            read_json(path, remedy="make it", shape=STEP)


def test_a_journal_with_another_line_is_damaged_and_one_without_seals_is_read(tmp_path):
    journal = Journal(tmp_path / "journal")
    for number in range(3):
        journal.append_logs([{"op_code": number}])
    lines = journal._path.read_text().splitlines(keepends=True)
    others = (
        [lines[0], lines[2]],
        [lines[1], *lines],
        [lines[0].replace("0,", "1,", 1), *lines[1:]],
    )
    for other in others:
        journal._path.write_text("".join(other))
        with pytest.raises(ValueError, match="is not what was written"):
            list(Journal(journal._path).read_logs(0))
    journal._path.write_text('{"op_code": 0}\n{"op_code": 1}\n')
    old = Journal(journal._path)
    old.append_logs([{"op_code": 2}])
    assert [log["op_code"] for log in Journal(journal._path).read_logs(1)] == [1, 2]


def test_a_lease_of_another_structure_is_waited_for_or_taken_over(tmp_path):
    lease = Lease(tmp_path / ".lock", sleep=lambda _seconds: None)
    lease.acquire()
    document = json.loads((tmp_path / ".lock-1").read_text())
    lease.release()
    for _, text in structures(document, random.Random(1), 60):
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / ".lock-1").write_text(text)
        Lease(tmp_path / ".lock").holder()
        found = _refusal(Lease(tmp_path / ".lock", sleep=lambda _seconds: None).acquire)
        assert found is None or found.remedy  # where it names this process, which is alive


def test_every_place_of_a_document_is_tried():
    document = {"a": [1, {"b": None}, 3], "c": "x"}
    assert set(places(document)) == {(), ("a",), ("a", 0), ("a", 1), ("a", 1, "b"), ("c",)}
    assert changed(document, ("a", 1, "b"), 5) == {"a": [1, {"b": 5}, 3], "c": "x"}
    everything = list(structures(document, random.Random(0)))
    assert len(everything) == 6 * len(OTHER_VALUES) + 5


# -- whole commands ------------------------------------------------------------------------------


class _World:
    """Files of which one is changed before commands are typed, and put back after each."""

    def __init__(self, folder):
        self.here, self.whole = folder / "here", folder / "whole"
        self.here.mkdir()

    def keep(self):
        shutil.copytree(self.here, self.whole)

    def put_back(self):
        shutil.rmtree(self.here)
        shutil.copytree(self.whole, self.here)

    def contents(self):
        files = (p for p in self.here.rglob("*") if p.is_file() and ".lock" not in p.name)
        return {p: p.read_bytes() for p in files if p.name not in ("log.txt", "events.jsonl")}

    def judge(self, name, commands, count):
        """Type all commands with every other structure of a file."""
        path, codes = self.here / name, set()
        read = json.loads if name.endswith("json") else yaml.safe_load
        document = read(path.read_text())
        for what, text in structures(document, random.Random(name), count):
            for words in commands:
                path.write_text(text)
                before = self.contents()
                ended = ness(*words)
                said = (name, what, words, ended.code, ended.err[-300:])
                assert ended.code in (0, *_FOUND), said
                assert "Traceback" not in ended.err, said
                after = self.contents()
                if ended.code:
                    assert "fix: " in ended.err, said
                    assert after == before, said
                codes.add(ended.code)
                if after != before:
                    self.put_back()
        self.put_back()
        return codes


@pytest.mark.slow
def test_commands_on_runs_with_records_of_another_structure(tmp_path, monkeypatch):
    world, here = _World(tmp_path), tmp_path / "here"
    monkeypatch.setenv("NESS_CACHE", str(here / "cache"))
    run = here / "fork"
    for words in (
        ("run", "--out", here / "run", *SMALL, "storage.progress_picture=false"),
        ("extend", here / "run", "data.num_tasks=1"),
        ("run", "--out", here / "run"),
        ("fork", here / "run", "--out", run, "methods.ness.eps1=1e-2"),
        ("run", "--out", run),
    ):
        assert ness(*words).code == 0
    world.keep()
    commands = (
        *(("status", run, "--json"), ("report", run), ("verify", run), ("inspect", run)),
        ("train-task", run, "--task", 3, "--force"),
        ("build-subspace", run, "--task", 2, "--force"),
        ("evaluate", run, "--task", 3, "--force"),
        *(("run", "--out", run), ("extend", run, "data.num_tasks=1"), ("prepare", "--out", run)),
        ("fork", run, "--out", here / "other", "methods.ness.eps1=2e-2"),
        ("export", run, here / "exported", "--to", "torch"),
        *(("prune", run), ("diff", here / "run", run), ("cache", "ls")),
        ("cache", "prune", "--runs", here, "--dry-run"),
    )
    for name in (*RECORDS, "task-02/accuracy.json", "task-01/train.json"):
        assert 5 in world.judge(f"fork/{name}", commands, 8)
    (key,) = (
        p.name for p in (here / "cache").iterdir() if (p / "task-02-test.safetensors").exists()
    )
    commands = (
        ("cache", "ls"),
        ("doctor", "--no-self-test"),
        ("verify", run),
        ("run", "--out", run),
    )
    world.judge(f"cache/{key}/stream.json", commands, 12)


@pytest.mark.slow
def test_commands_on_studies_with_records_of_another_structure(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    world, here = _World(tmp_path), tmp_path / "here"
    monkeypatch.setenv("NESS_CACHE", str(here / "cache"))
    for name, study in (("study", _STUDY), ("tuned", _SEARCH)):
        (here / f"{name}.yaml").write_text(json.dumps(study))
    rows = ("study", "run", here / "study.yaml", "--out", here / "study", "--jobs", 1)
    search = ("tune", here / "tuned.yaml", "--out", here / "tuned", "--jobs", 1)
    for words in (rows, search):
        assert ness(*words).code == 0
    world.keep()
    for folder, command in (("study", rows), ("tuned", search)):
        looks = [("study", how, here / folder) for how in ("status", "stop")]
        for name in ("study.json", "study.yaml"):
            codes = world.judge(f"{folder}/{name}", [command, *looks], 12)
            assert 5 in codes
