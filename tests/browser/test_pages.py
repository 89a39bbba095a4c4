"""Pages and pictures with names made to harm, opened in a browser: nothing of a name runs there.

``make test-browser`` asks for them; Chromium has to be installed (``apt-get install chromium``).
"""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from browser.chromium import find, started
from browser.pages import NAMES, folder_name, harmless, make_runs, saved, spelled
from markdown_it import MarkdownIt

from ness_cli.results import experiment_pictures
from ness_cli.results.formats import html, markdown
from ness_cli.results.page import elements
from ness_cli.stages.report import report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif("NESS_TEST_BROWSER" not in os.environ, reason="make test-browser asks"),
]
WIDTHS = (390, 1280)
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
_LOOK = """(() => {
  const all = [...document.querySelectorAll('*')];
  const attributes = all.flatMap(e => [...e.attributes]);
  const links = ['href', 'xlink:href', 'src', 'action', 'formaction', 'data'];
  return {
    title: document.title, pwned: typeof window.pwned, scripts: document.scripts.length,
    handlers: attributes.filter(a => a.name.startsWith('on')).map(a => a.name),
    links: attributes.filter(a => links.includes(a.name) && !a.value.startsWith('#'))
      .map(a => a.value),
    errors: document.querySelectorAll('parsererror').length,
    too_wide: document.documentElement.scrollWidth - innerWidth,
  };
})()"""
_TABLES = "[...document.querySelectorAll('table')].map(t => [...t.rows].map(r => r.cells.length))"
_ELEMENTS = "[...document.querySelectorAll('*')].map(e => e.tagName)"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    program = find()
    if program is None:
        pytest.fail("no Chromium: apt-get install chromium, or CHROMIUM=/path/to/chrome")
    with started(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("bad"), NAMES, tuple(map(folder_name, NAMES)))


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    """The same runs with names of letters."""
    names = tuple(f"{harmless(name)}n{index}" for index, name in enumerate(NAMES))
    folders = tuple(name.encode()[:200].decode(errors="ignore") for name in names)
    return make_runs(tmp_path_factory.mktemp("good"), names, folders)


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """The page of a report and that of a study, as they are and without what forbids scripts."""
    out = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ness_cli.stages.report.is_possible", lambda: False)  # pictures: see below
        found = [
            saved(out / "report", "report", runs) / "report.html",
            saved(out / "study", "study", "table", runs) / "table.html",
        ]
    for path in found[:]:
        bare = path.with_name(f"bare-{path.name}")
        text, num_changed = _POLICY.subn("", path.read_text())
        assert num_changed == 1
        bare.write_text(text)
        found.append(bare)
    return found


def _assert_inert(tab, path):
    look = tab.evaluate(_LOOK)
    assert (look["pwned"], look["scripts"], look["errors"]) == ("undefined", 0, 0), path
    assert (look["handlers"], look["links"]) == ([], []), path
    assert tab.requests == [path.as_uri()]
    assert tab.said == []
    return look


def test_no_script_of_a_name_runs_and_nothing_is_asked_for(tab, pages, tmp_path):
    for path in pages:
        for width in WIDTHS:
            tab.open(path.as_uri(), width)
            look = _assert_inert(tab, path)
            assert look["title"].startswith(f"ness report: {len(NAMES)} experiments")
            assert look["too_wide"] <= 0
        shown = tab.evaluate("document.body.textContent")
        assert not [name for name in NAMES if spelled(name) not in shown]
    tab.screenshot(tmp_path / "page.png")
    print(f"\nlook at it: {tmp_path / 'page.png'}")


def test_tables_and_elements_are_those_of_a_page_of_letters(tab, pages, letters, tmp_path):
    tab.open(pages[0].as_uri(), WIDTHS[1])
    tables, elements_of = tab.evaluate(_TABLES), Counter(tab.evaluate(_ELEMENTS))
    path = tmp_path / "letters.html"
    path.write_text(html.render(report([letters])))
    tab.open(path.as_uri(), WIDTHS[1])
    assert tab.evaluate(_TABLES) == tables
    assert len(tables) > 100
    # The ticks of axes are not those of names: lines of a picture may be a few more or less.
    other = Counter(tab.evaluate(_ELEMENTS))
    ours = {tag for tag in elements_of | other if tag.isupper()}
    assert {tag: elements_of[tag] for tag in ours} == {tag: other[tag] for tag in ours}


def test_pictures_by_themselves_run_nothing(tab, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("ness_cli.stages.report.ENDINGS", (".svg",))
    monkeypatch.setattr(experiment_pictures, "MOST_LINES", len(NAMES))
    pictures = sorted((saved(tmp_path, "report", runs) / "plots").glob("*.svg"))
    assert len(pictures) > len(NAMES)
    for path in pictures:
        tab.open(path.as_uri(), WIDTHS[1])
        _assert_inert(tab, path)


def test_markdown_has_the_tables_of_letters(tab, runs, letters, tmp_path):
    """As CommonMark with tables, HTML allowed, makes a page of it."""
    shapes = []
    render = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render
    for parent in (runs, letters):
        path = tmp_path / f"{parent.name}.html"
        made = render(markdown.render(report([parent])))
        path.write_text(f'<!DOCTYPE html><meta charset="utf-8">{made}')
        tab.open(path.as_uri(), WIDTHS[1])
        _assert_inert(tab, path)
        shapes.append((tab.evaluate(_TABLES), Counter(tab.evaluate(_ELEMENTS))))
    assert shapes[0] == shapes[1]


def test_scripts_that_are_not_escaped_are_seen_here_and_stopped_by_the_policy(
    tab, runs, tmp_path, monkeypatch
):
    """Both can fail: what is looked for is found where nothing is escaped."""
    monkeypatch.setattr(elements, "text", str)
    for module in (html, elements):
        monkeypatch.setattr(module, "is_possible", lambda: False)
    page, num_run = tmp_path / "page.html", 0
    for parent in sorted(runs.iterdir()):
        if "refresh" in parent.name:  # would leave the page
            continue
        text = html.render(report([parent]))
        page.write_bytes(_POLICY.sub("", text).encode(errors="replace"))
        tab.open(page.as_uri(), WIDTHS[1])
        asks = any(address.endswith("pwned.png") for address in tab.requests)
        num_run += asks and tab.evaluate("document.title") == "pwned"
        page.write_bytes(text.encode(errors="replace"))
        tab.open(page.as_uri(), WIDTHS[1])
        assert tab.evaluate("typeof window.pwned") == "undefined", parent
    print(f"\nnot escaped, {num_run} of {len(NAMES)} names run a script")
    assert num_run >= 8
