from __future__ import annotations

import io
import json
import os
import sys

import pytest
from rich.console import Console as RichConsole
from rich.progress import Progress as RichProgress
from rich.table import Table

from ness_cli.cli.app import main
from ness_cli.console import Console, Progress, Section, _bar_columns
from ness_cli.errors import NessError


def test_results_go_to_stdout_and_everything_else_to_stderr(capsys):
    console = Console()
    console.result("a table")
    console.note("a note [with brackets]")
    console.next("ness run")
    console.document({"a": 1})
    out, err = capsys.readouterr()
    assert out == "a table\n"
    assert err == "a note [with brackets]\nNext: ness run\n"


def test_names_with_brackets_and_colons_are_shown_as_they_are(capsys):
    table = Table("run")
    table.add_row("runs/[a]x :smile:")
    Console().result(table)
    assert "runs/[a]x :smile:" in capsys.readouterr().out


def test_json_leaves_one_document_on_stdout(capsys):
    console = Console(json=True)
    console.result("a table")
    console.document({"a": [1.5, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1.5, None]}


def _stdout_in_ascii(monkeypatch):
    """Return the bytes behind a stdout of a locale that has no other signs than ASCII's."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    return written


def test_a_sign_that_the_locale_lacks_is_a_question_mark(monkeypatch):
    written = _stdout_in_ascii(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["ness", "report", "--explain"])
    with pytest.raises(SystemExit) as ended:
        main()
    sys.stdout.flush()
    assert ended.value.code == 0
    assert b"?: sample standard deviation over seeds" in written.getvalue()


def test_what_programs_read_is_utf8_in_every_locale(monkeypatch):
    written = _stdout_in_ascii(monkeypatch)
    Console().plain("± 文 \udcff\n")
    assert written.getvalue() == "± 文 ".encode() + b"\xff\n"


def test_a_document_may_not_hold_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        Console(json=True).document({"a": float("nan")})


def test_quiet_prints_errors_only(capsys):
    console = Console(quiet=True)
    console.result("a table")
    console.note("a note")
    console.next("ness run")
    with console.track("work", 3) as advance:
        advance()
    console.error(NessError("x [a] is wrong", "run: y"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: x [a] is wrong\n  fix: run: y\n"


def test_a_long_line_is_not_broken_inside_a_command(capsys):
    command = "ness train-task " + "x" * 300
    Console().next(command)
    assert f"Next: {command}\n" == capsys.readouterr().err


def test_without_a_terminal_progress_is_a_plain_line_now_and_then(capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr("ness_cli.console.time.monotonic", lambda: float(next(clock)))
    with Console().track("task 1: training", 10) as advance:
        for _ in range(10):
            advance(1, "epoch 1/2")
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) < 10
    assert all(line.startswith("task 1: training: ") for line in lines)
    assert " %, epoch 1/2, about " in lines[0]


def test_a_plain_line_tells_no_time_left_before_there_is_a_speed(capsys, monkeypatch):
    clock = iter([0.0, 20.0, 20.0, 40.0])
    monkeypatch.setattr("ness_cli.console.time.monotonic", lambda: next(clock))
    with Console().track("task 1: training", 10) as advance:
        advance(1)
        advance(1)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "task 1: training: 10 %"
    assert second == "task 1: training: 20 %, about 160 s left"


def _bar(width: int, description: str, info: str) -> str:
    progress = RichProgress(*_bar_columns(width), expand=True)
    progress.add_task(description, total=4000, completed=1000, info=info)
    console = RichConsole(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(progress.make_tasks_table(progress.tasks))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 99, 100, 120, 200])
@pytest.mark.parametrize("name", ["task 10/10: training", "downloading " + "x" * 80 + ".tar.gz"])
def test_a_progress_bar_is_one_line_that_says_what_how_far_and_how_long(width, name):
    line = _bar(width, name, "epoch 112/200, validation 71.2 %, and a good deal more " + "y" * 99)
    assert line.count("\n") == 1
    assert len(line.rstrip("\n")) <= width
    assert line.startswith(name[:8])
    assert " 25%" in line
    assert "left -:--:--" in line


def test_the_information_is_shown_as_far_as_it_fits():
    info = "epoch 112/200, validation 71.2 %"
    assert info in _bar(100, "task 10/10: training", info)
    assert "epoch 112/200" in _bar(80, "task 10/10: training", info)


@pytest.fixture
def closed_pipes(monkeypatch):
    """Standard output and error whose readers have gone away."""
    streams = []
    for name in ("stdout", "stderr"):
        reader, writer = os.pipe()
        os.close(reader)
        streams.append(os.fdopen(writer, "w", encoding="utf-8"))
        monkeypatch.setattr(sys, name, streams[-1])
    yield streams
    for stream in streams:
        stream.close()  # what is left in it goes nowhere, and raises nothing


def test_when_the_reader_has_gone_away_the_work_goes_on_in_silence(closed_pipes):
    console = Console(json=True)
    console.note("a note")
    with console.track("work", 2) as advance:
        advance()
    console.document({"a": "x" * 100_000})
    shown = Console()
    shown.result("a table")
    shown.plain("text")
    shown.error(NessError("what", "remedy"))


def test_progress_without_a_console_says_nothing(capsys):
    with Progress().track("work", 3, done=1) as advance:
        advance(2, "x")
    Progress().note("x")
    assert capsys.readouterr() == ("", "")


def test_what_changes_is_shown_in_its_place_on_a_terminal_and_as_news_elsewhere(capsys):
    sections = [
        [Section("1", "a: 10 %", ("details",))],
        [Section("1", "a: 20 %", ("details",))],
        [Section("2", "a: done")],
    ]
    with Console().live() as show:
        for each in sections:
            show(each)
    assert capsys.readouterr().out == "a: 10 %; details\na: done\n"
    with Console().live(plain_seconds=0) as show:
        for each in sections:
            show(each)
    assert capsys.readouterr().out.count("\n") == 3
    console = Console()
    screen = io.StringIO()
    console._out = RichConsole(file=screen, force_terminal=True, width=80)
    with console.live() as show:
        for each in sections:
            show(each)
    assert "a: 20 %" in screen.getvalue()
    assert "\x1b[" in screen.getvalue()  # the cursor goes back to what is replaced


@pytest.mark.parametrize("say", ["note", "complaint", "next", "error"])
def test_no_name_commands_a_terminal(capsys, say):
    name = "a\x1b]0;b\x07\x9b31m\u202e.png"
    console = Console()
    getattr(console, say)(NessError(name, name) if say == "error" else name)
    printed = capsys.readouterr().err
    assert r"a\x1b]0;b\x07\x9b31m\u202e.png" in printed
    assert printed.replace("\n", "").isprintable()
