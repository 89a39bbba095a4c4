"""Every format of a report says the same, and no name of a folder breaks one."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_run import made_up

from ness_cli.registry import names
from ness_cli.results.formats import latex
from ness_cli.results.formats.csv import COLUMNS
from ness_cli.results.table import Cell, plain_table, titled
from ness_cli.stages.report import FORMATS, report, report_format, save

UGLY = "a|b & 50% $x_1$ {#} ~^ <b>*[1]*\\n \x1b[31m\nnew--line é `c` \\\\"
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}"
PAPER = r"""\documentclass{article}
\usepackage{booktabs,graphicx,longtable}
\usepackage[T1]{fontenc}
\begin{document}
\input{report.tex}
\end{document}
"""
TEXTUAL = ["csv", "latex", "markdown", "text"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Three seeds of one method, two of another, in folders of the worst names."""
    parent = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        made_up(parent / UGLY / f"seed-{seed}", seed)
    for seed in (1, 2):
        made_up(parent / "gpm" / f"seed-{seed}", seed, method="gpm")
    return parent


def test_all_formats_are_found_by_their_files():
    assert set(names(FORMATS)) >= {"csv", "json", "latex", "markdown", "text"}


@pytest.mark.parametrize("name", TEXTUAL)
def test_control_characters_of_names_are_spelled_out(runs, name):
    text = report_format(name).render(report([runs]))
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)
    shown = text.replace(r"\textbackslash{}", "\\").replace("\\\\", "\\")
    assert r"\x1b" in shown


def test_every_row_of_markdown_has_the_cells_of_its_head(runs):
    text = report_format("markdown").render(report([runs]))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) > 6
    for lines in tables:
        counts = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}
        assert len(counts) == 1
        assert re.fullmatch(r"(\| (:--|--:) )+\|", lines[1])


def test_latex_has_no_open_group_and_its_rows_have_the_cells_of_their_columns(runs):
    text = report_format("latex").render(report([runs]))
    bare = re.sub(r"\\[&%$#_{}]", "", text.replace(FITTED, ""))
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[~^|<>\"]", re.sub(r"(?m)^%.*$", "", bare))
    bare = re.sub(r"p\{[\d.]+\\linewidth\}", "p", bare)
    tables = re.findall(r"(?s)\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", bare)
    assert len(tables) > 6
    for spec, body in tables:
        rows = re.findall(r"(?m)^(.*) \\\\$", body)
        assert rows
        assert {row.count(" & ") for row in rows if "& 50" not in row} <= {len(spec) - 1}
        # A bracket or star after the end of a row would be its argument.
        assert not [row for row in rows if row.lstrip().startswith(("[", "*"))]


# What LaTeX reads back as the sign on the left, after "LaTeX2e: an unofficial reference manual".
SIGNS = {
    **{sign: "\\" + sign for sign in "_%&#$"},
    **{"{": r"\{", "}": r"\}", "\\": r"\textbackslash{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{'"': r"\textquotedbl{}", "±": r"$\pm$", "[": "{[}", "*": "{*}"},
    **{"--": "-{}-", ",,": ",{},", "''": "'{}'", "---": "-{}-{}-"},
}


def test_every_sign_that_latex_has_another_use_for_is_escaped():
    assert {sign: latex.escaped(sign) for sign in SIGNS} == SIGNS
    assert latex.escaped(r"a_b\%") == r"a\_b\textbackslash{}\%"
    plain = "digits, ness: seed-1 (0.5/1) 'x' ;:!?+=@é"
    assert latex.escaped(plain) == plain


def _latex(table) -> str:
    return latex.render(SimpleNamespace(parts=lambda width: [table]))


def test_a_latex_table_that_no_page_has_room_for_goes_on_over_the_next_ones():
    short, long = (_scores(1, [float(v) for v in range(count)]) for count in (40, 41))
    assert r"\begin{table}" in _latex(short)
    text = _latex(long)
    assert r"\begin{table}" not in text
    head, _, rows = text.partition(r"\endfoot")
    assert head.count(r"run & score \\") == 2  # on the first page, and on the others
    assert rows.count(r" \\") == 41


def test_a_name_in_several_lines_may_be_broken_there_in_latex_too():
    table = plain_table("run", "score")
    table.add_row(Cell("runs/\nlong-name"), "1.0")
    text = _latex(table)
    assert r"runs/\allowbreak{}long-name & 1.0 \\" in text
    assert re.search(r"\{tabular\}\{p\{0\.\d+\\linewidth\}r\}", text)


def test_a_long_name_of_a_layer_may_be_broken_in_latex():
    table = plain_table("layer", "score")
    table.add_row("encoder.layers.encoder_layer_1.mlp", "1.0")
    parts = ["encoder.", "layers.", r"encoder\_", r"layer\_", "1.", "mlp & 1.0"]
    assert r"\allowbreak{}".join(parts) in _latex(table)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_and_nothing_is_wider_than_a_line(runs, tmp_path):
    found = replace(report([runs]), explains=True)
    (tmp_path / "report.tex").write_text(latex.render(found), encoding="utf-8")
    (tmp_path / "paper.tex").write_text(PAPER)
    program = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert b"Overfull" not in done.stdout


def test_csv_has_a_row_per_run_and_per_group_with_the_numbers_of_the_document(runs):
    found = report([runs])
    rows = list(csv.DictReader(io.StringIO(report_format("csv").render(found))))
    document = json.loads(report_format("json").render(found))
    assert tuple(rows[0]) == COLUMNS
    assert [row["kind"] for row in rows] == ["run"] * 5 + ["group"] * 2
    for row, run in zip(rows, document["runs"], strict=False):
        assert float(row["acc"]) == run["acc"]
        assert float(row["train_seconds"]) == sum(run["seconds"]["train"])
        assert (row["class_acc"], row["acc_std"]) == ("", "")
    for row, group in zip(rows[5:], document["groups"], strict=True):
        assert float(row["acc"]) == group["acc"]["mean"]
        assert float(row["acc_std"]) == group["acc"]["std"]
        assert int(row["num_seeds"]) == len(group["seeds"])


def test_saving_writes_every_format_that_is_a_file_and_equal_bytes_again(runs, tmp_path):
    found = report([runs])
    written = save(found, tmp_path / "new" / "folder")
    assert {path.name for path in written} >= {f"report.{s}" for s in ("csv", "json", "md", "tex")}
    before = {path: path.read_bytes() for path in written}
    assert save(report([runs]), tmp_path / "new" / "folder") == written
    assert {path: path.read_bytes() for path in written} == before


def _scores(better: int, values: list[float | None]):
    table = plain_table("run", "score")
    table.columns[1].better = better
    for value in values:
        table.add_row("r", Cell("-" if value is None else f"{value:.1f}", value))
    return table


@pytest.mark.parametrize(
    ("better", "values", "best"),
    [
        (1, [1.0, 3.0, 2.0], [1]),
        (-1, [1.0, 3.0, 2.0], [0]),
        (0, [1.0, 3.0, 2.0], []),
        (1, [3.01, 3.02, 2.0], [0, 1]),  # they read the same
        (1, [2.0, 2.0], []),  # none is better than another
        (1, [None, 2.0], []),
        (1, [None, 2.0, 1.0], [1]),
    ],
)
def test_the_best_stands_out_where_there_is_something_to_compare(better, values, best):
    table = _scores(better, values)
    assert [table.rows.index(row) for row in table.best(1)] == sorted(set(best))[: len(best)]


def _bold(report_text: str, title: str) -> list[str]:
    """Return which rows of a LaTeX table have a bold cell, by their first cell."""
    (table,) = [t for t in report_text.split(r"\begin{table}") if f"caption{{{title}" in t]
    return [line.split(" & ")[0].strip() for line in table.splitlines() if r"\textbf" in line]


def test_the_best_experiment_is_bold_and_training_on_all_data_is_no_rival(tmp_path):
    for method, seeds in (("ness", (2, 3)), ("gpm", (4, 5)), ("joint", (1, 2))):
        for seed in seeds:
            made_up(tmp_path / method / str(seed), seed, method=method)
    text = report_format("latex").render(report([tmp_path]))
    assert _bold(text, "Mean") == ["ness"]
    assert _bold(text, "Task-incremental") == []  # the best of several seeds would be luck
    single = [tmp_path / "ness" / "2", tmp_path / "gpm" / "4", tmp_path / "joint" / "1"]
    text = report_format("latex").render(report(single))
    assert [name.endswith("ness/2") for name in _bold(text, "Task-incremental")] == [True]


def test_nothing_is_best_among_runs_on_other_images(tmp_path):
    made_up(tmp_path / "a", 1)
    made_up(tmp_path / "b", 2, method="gpm", settings={"data.limit_per_class": 5})
    assert _bold(report_format("latex").render(report([tmp_path])), "Task-incremental") == []


def test_long_words_are_folded_in_latex():
    found = replace(report([], needs_runs=False), explains=True)
    text = report_format("latex").render(found)
    (shares,) = re.findall(r"\{longtable\}\{lp\{(\S+)\\linewidth\}p\{(\S+)\\linewidth\}\}", text)
    assert 0.4 <= sum(map(float, shares)) <= 0.9


def test_a_title_and_notes_are_free_of_control_characters():
    table = titled("a\x07b", plain_table("x\ty"), "", "n\x1bn")
    assert (table.title, table.columns[0].name, table.notes) == (r"a\x07b", r"x\ty", (r"n\x1bn",))
