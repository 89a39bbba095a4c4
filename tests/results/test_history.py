from pathlib import Path

import pytest

from ness_cli.errors import DamagedError
from ness_cli.results.history import read_history


def test_the_epoch_that_is_being_written_is_left_for_the_next_time(tmp_path):
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    assert read_history(path) == [{"epoch": 1}, {"epoch": 2}]


def test_a_history_that_may_not_be_read_is_no_damage(tmp_path, monkeypatch):
    def refused(*_arguments, **_options):
        raise PermissionError

    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n')
    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(PermissionError):
        read_history(tmp_path / "history.jsonl")


@pytest.mark.parametrize("line", ["{", "[1]", "\x00", "[" * 100_000, '{"seconds": null}'])
def test_a_line_that_training_did_not_write_is_damage(tmp_path, line):
    path = tmp_path / "history.jsonl"
    path.write_text(f'{{"epoch": 1}}\n{line}\n')
    with pytest.raises(DamagedError, match=r"history\.jsonl is damaged"):
        read_history(path)
