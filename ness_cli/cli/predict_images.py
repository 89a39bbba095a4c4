"""What ``ness predict`` does: names from the command line and stdin in, tables, CSV or JSON out."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from ness_cli.cli.session import Session
from ness_cli.errors import InputError
from ness_cli.results.prediction_tables import prediction_table
from ness_cli.run_dir import RunDir
from ness_cli.stages.context import RunContext
from ness_cli.stages.predict import predict
from ness_cli.words import counted


def predict_images(
    workplace: Session,
    run: Path,
    paths: Sequence[str],
    *,
    task: int | None,
    top: int,
    has_csv: bool,
) -> None:
    """Recognise images and show what they are.

    Raises:
        InputError: As in ``predict``.
        typer.Exit: With 4 after all results, if files could not be read.
    """
    console = workplace.console
    found = predict(RunContext(RunDir(run), workplace), _names(paths), task, top=top)
    if found.model.network.statistics == "batch":
        console.note("norm.statistics=batch: an image's result depends on the images beside it")
    document = {**found.document(), "run": str(run)}
    if has_csv:
        console.plain(_csv(document["predictions"]))
    else:
        console.result(prediction_table(document["predictions"], found.title))
        if found.confusion is not None:
            console.result(found.confusion.tables(console.width))
    console.document(document)
    if found.unreadable:
        console.note(f"{counted(len(found.unreadable), 'file')} could not be read and are left out")
        raise typer.Exit(InputError.exit_code)


def _names(paths: Sequence[str]) -> list[str]:
    """Return the paths, with those on stdin in place of ``-``."""
    found: list[str] = []
    for path in paths:
        found += _listed(sys.stdin.buffer.read()) if path == "-" else [path]
    return [name for name in found if name]


def _listed(data: bytes) -> list[str]:
    """Return the names in a list: a line each, or what stands between NULs if there are any.

    Only the latter, as ``find -print0`` writes it, can hold a name with a line break.
    """
    names = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(name) for name in names]


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line per image: what it is, and further candidates in further columns."""
    out = io.StringIO()
    most = max((len(row["top"]) for row in rows), default=1)
    columns = ["label", "task", "confidence"]
    more = [f"{name}_{place}" for place in range(2, most + 1) for name in columns]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["file", *columns, *more])
    for row in rows:
        candidates = [f"{each[name]}" for each in row["top"] for name in columns]
        writer.writerow([row["file"], *candidates])
    return out.getvalue()
