"""Names made to harm: shown, in whatever format, they command nothing and are no markup."""

from __future__ import annotations

import csv
import io
import re
import string
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from fake_runs import make_run as make_fake
from fake_runs import write_study
from made_up_run import call_everything, made_up
from typer.testing import CliRunner

from ness_cli.cli.app import app
from ness_cli.cli.predict_images import _csv, _listed
from ness_cli.console import Console, Section
from ness_cli.data.image_files import named_images
from ness_cli.errors import UnreadableError
from ness_cli.plots.accuracy_matrix import accuracy_matrix
from ness_cli.plots.picture import inline_svg, label
from ness_cli.results.formats import html
from ness_cli.results.formats.markdown import escaped
from ness_cli.results.gate_files import github_annotations, write_junit
from ness_cli.results.gates import Verdict
from ness_cli.results.page import elements
from ness_cli.results.prediction_tables import Confusion, prediction_table
from ness_cli.results.table import Paragraph, plain_table, titled
from ness_cli.run_dir import RunDir
from ness_cli.stages.context import run_log
from ness_cli.stages.report import report

# A title for the terminal's window, a colour, rich's markup, text that runs backwards, lines that
# are none, commands of GitHub, elements of a page, LaTeX, Markdown.
NAME = "\x1b]0;x\x07\x9b31m[red]a[/]\u202eb\n::error::c\r\n  ::d\u2028e\0<f onx=1>\"'`\\g{%0A"
CLASS = f"{NAME}</script><script>h()</script></svg><!-- ]]> ![i](//j) $k$|"
BENIGN = str.maketrans({c: "x" for c in map(chr, range(0x80)) if c not in string.ascii_letters})


def _spelled(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _make(parent, folder: str, name: str):
    """Make two seeds of a run whose folder, classes, layers, preset, settings and notes are it."""
    layers = [{"layer": name, "free_percent": 12.5, "rank": 1, "d": 8}]
    for seed in (1, 2):
        run = made_up(
            parent / folder / f"seed-{seed}",
            seed,
            more={"layers": layers},
            settings={"data.path": name, "net.arguments": {name: name}},
        )
        call_everything(run, name)
        (run / "task-02" / "history.jsonl").write_text("{}\n" if seed == 1 else f'"{seed}\n')
    return parent / folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return _make(tmp_path_factory.mktemp("runs"), NAME.replace("\0", ""), CLASS)


@pytest.fixture
def without_pictures(monkeypatch):
    """Leave drawings out of pages: they take long, and have a test of their own."""
    for module in (html, elements):
        monkeypatch.setattr(module, "is_possible", lambda: False)


def _assert_inert(text: str) -> None:
    wrong = {c for c in text if not c.isprintable()} - {"\n"}
    assert not wrong, wrong


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("status", "--watch"),
        ("report",),
        *(("report", "--format", name) for name in ("markdown", "csv", "latex")),
        ("report", "--min-acc", "99", "--github"),
        ("inspect",),
        ("verify",),
    ],
    ids=" ".join,
)
def test_what_a_command_prints_commands_nothing(command, runs):
    path = runs / "seed-1" if command[0] in ("inspect", "verify") else runs
    result = CliRunner().invoke(app, [command[0], str(path), *command[1:]])
    assert result.exit_code in (0, 3, 4, 5), result.output
    shown = result.output
    _assert_inert(shown)
    assert r"\x1b" in shown.replace(r"\textbackslash{}", "\\").replace("\\\\", "\\")


@pytest.mark.usefixtures("without_pictures")
def test_the_table_of_a_study_commands_nothing(tmp_path):
    parent = tmp_path / NAME.replace("\0", "")
    parent.mkdir(parents=True)
    folder = write_study(parent, {"a": [], "b": []})
    make_fake(folder / "a" / "seed-1", [], 1, rows=[[92.0]])
    result = CliRunner().invoke(app, ["study", "table", str(folder)])
    assert result.exit_code == 0, result.output
    for text in (result.output, *((folder / f"table.{e}").read_text() for e in ("md", "tex"))):
        _assert_inert(text)
        assert "b/seed-1: not run" in text.replace("{}", "")


def test_tables_have_the_line_breaks_that_are_meant_and_no_others(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "5000")
    table = titled(NAME, plain_table(NAME, "b", left=2), NAME)
    table.add_row(NAME, CLASS)
    row = {"file": NAME, "label": CLASS, "task": 1, "confidence": 1.0}
    row["top"] = [{"label": CLASS, "task": 1, "confidence": 0.5}] * 2
    confusion = Confusion.of([(CLASS, CLASS)], [NAME], [CLASS])
    console, line = Console(), Paragraph(NAME)
    for shown_as, num_lines in (
        *((table, 4), (line, 1), (prediction_table([row], NAME), 3), (confusion.tables(60), 3)),
        (NAME.replace("\n  ", ""), 1),
    ):
        console.result(shown_as)
        shown = capsys.readouterr().out
        _assert_inert(shown)
        assert shown.count("\n") == num_lines
        assert "[red]" in shown


def test_csv_of_predictions_has_names_as_they_are():
    rows = [{"file": NAME, "top": [{"label": CLASS, "task": 1, "confidence": 0.5}]}]
    (_, found) = csv.reader(io.StringIO(_csv(rows), newline=""))
    assert found[:2] == [NAME, CLASS]


def test_what_goes_on_commands_nothing(capsys, monkeypatch):
    for is_terminal in (False, True):
        if is_terminal:
            monkeypatch.setenv("FORCE_COLOR", "1")
            monkeypatch.setenv("TERM", "xterm")
        console = Console()
        console._err.width = console._out.width = 400
        with console.live() as show:
            show([Section("1", NAME, (CLASS,))])
        with console.track(NAME, 2) as advance:
            advance(1, CLASS)
        console.note(f"left out: {NAME}")
        shown = "".join(capsys.readouterr())
        assert r"\x1b]0;x\x07\x9b31m[red]a[/]\u202eb" in shown
        assert not set("\x07\x9b\u202e\u2028\0") & set(shown)
        assert "\x1b]" not in shown
        assert not re.search(r"(?m)^::", shown)


def test_further_lines_of_a_message_are_lines(capsys):
    Console().note("2 files:\n  a\n  b")
    assert capsys.readouterr().err == "2 files:\n  a\n  b\n"


# -- what other programs read ----------------------------------------------------------------------


class _Skeleton(HTMLParser):
    """Elements and the names of their attributes; values of all but those that describe."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[object, ...]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag in ("meta", "br") else [tag]
        self.found.append((tag, tuple(key for key, _ in attrs)))

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, tuple(key for key, _ in attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        self.found.append(("comment", data))

    def handle_pi(self, data):
        self.found.append(("instruction", data))


def _skeleton(page: str) -> list[tuple[object, ...]]:
    found = _Skeleton(page)
    assert not found.open
    keys = {key for _, keys in found.found for key in keys}
    assert not [key for key in keys if key.startswith("on") or key in ("src", "srcdoc", "action")]
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', page))
    assert not {"script", "f", "comment", "instruction", "img"} & {each[0] for each in found.found}
    return found.found


@pytest.mark.usefixtures("without_pictures")
def test_no_element_or_attribute_of_a_page_is_made_by_a_name(runs, tmp_path):
    """The page of the worst names has the elements of a page of letters, and no script."""
    letters = [_spelled(name).translate(BENIGN) for name in (NAME.replace("\0", ""), CLASS)]
    plain = _make(tmp_path, *letters)
    bad, good = (_skeleton(html.render(report([each]))) for each in (runs, plain))
    assert bad == good
    assert len(good) > 500


def test_no_element_or_attribute_of_a_picture_is_made_by_a_name():
    names = (CLASS, _spelled(CLASS).translate(BENIGN))
    bad, good = (
        _skeleton(inline_svg(accuracy_matrix(name, [[90.0]], [name]), "a", elements.text(name)))
        for name in names
    )
    assert bad == good


def test_words_of_a_picture_that_look_like_its_own_identifiers_and_colours_stay():
    words = 'url(#a) id="b" "#c #24292f'
    shown = inline_svg(accuracy_matrix(words, [[90.0]], [words]), "own", "d")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", shown)
    assert [each for each in texts if each == words]
    assert 'id="own-' in shown
    assert "var(--ink)" in shown


@pytest.mark.usefixtures("without_pictures")
def test_a_title_names_a_few_presets_and_is_broken_where_it_is_too_long(tmp_path):
    for index in range(10):
        _make(tmp_path, f"{index}", f"{index}" * 100)
    page = html.render(report([tmp_path]))
    (title,) = re.findall("<title>(.*)</title>", page)
    assert title.endswith(f"{'7' * 100} and 2 more")
    assert re.search(r"h1 \{[^}]*overflow-wrap: anywhere", page)


def test_reports_of_ci_services_read_back_what_was_named(tmp_path):
    verdicts = [Verdict(NAME, CLASS, False, NAME)]
    write_junit(verdicts, tmp_path / "gates.xml")
    (suite,) = ElementTree.parse(tmp_path / "gates.xml").getroot()
    (case,) = suite
    assert case.get("classname") == _spelled(NAME)
    assert [each.tag for each in case] == ["failure"]
    (line,) = github_annotations(verdicts)
    assert line.isprintable()
    assert line.startswith("::error title=")
    title = line.removeprefix("::error title=").partition("::")[0]
    unescaped = title.replace("%3A", ":").replace("%2C", ",").replace("%25", "%")
    assert unescaped == _spelled(NAME)


def test_pictures_and_logs_show_names_on_one_line(tmp_path):
    assert label(NAME, 200).isprintable()
    run = RunDir(tmp_path)
    with run_log(run, NAME):
        pass
    _assert_inert(run.log.read_text().replace("::error", "error").replace("\n  ::d", ""))


def test_markdown_has_no_markup_of_a_name():
    text = escaped(CLASS)
    assert not re.search(r"(?<!\\)[<>\[\]`|*_$]", text)


# -- names of files --------------------------------------------------------------------------------


def test_a_list_on_stdin_has_lines_or_names_between_nuls():
    assert _listed(b"a b\nc\x0b\xff\r\n") == ["a b", "c\x0b\udcff"]
    assert _listed(b"a\nb\0c\0") == ["a\nb", "c", ""]


@pytest.mark.parametrize("name", ["a\0b", "a\0/*.png", "\0"])
def test_a_name_with_a_nul_is_a_file_that_cannot_be_read(name):
    with named_images([name]) as (image,), pytest.raises(UnreadableError, match="cannot be read"):
        image.open()


def test_a_file_that_is_no_archive_after_all_is_opened_as_an_image(tmp_path, monkeypatch):
    def broken(_):
        raise EOFError("damaged")

    monkeypatch.setattr("tarfile.is_tarfile", broken)
    (tmp_path / "a").write_bytes(b"\x1f\x8b")
    with named_images([str(tmp_path / "a")]) as (image,):
        assert image.name == str(tmp_path / "a")
