"""The only module that prints: results to stdout, everything else to stderr.

On a terminal there are progress bars and colour; elsewhere, and with ``NO_COLOR``, plain lines.
Tables are as wide as the terminal, or as ``COLUMNS`` says, or 100 columns where there is neither.
"""

from __future__ import annotations

import errno
import io
import json as json_library
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console as RichConsole
from rich.console import RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from ness_cli.errors import NessError
from ness_cli.words import printable

_PLAIN_WIDTH = 100
_PLAIN_SECONDS = 10.0
_WIDE = 100  # columns from which a progress bar has room for everything
_WIDE_COLUMNS, _NARROW_COLUMNS = 50, 30  # what bar, percentage and times take, at most


class Advance(Protocol):
    """Told of units of work done, with a line of information."""

    def __call__(self, n: int = 1, info: str = "") -> None:
        """Take notice of ``n`` more units."""


def _ignore(n: int = 1, info: str = "") -> None:
    pass


class Progress:
    """Takes notice of progress and says nothing; what stages get when nobody is watching."""

    @contextmanager
    def track(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Follow a piece of work of ``total`` units, ``done`` of which are done.

        Yields:
            A function to call with the number of units done and a line of information.
        """
        yield _ignore

    def note(self, text: str) -> None:
        """Say something in passing."""


class Console(Progress):
    """The console of a command.

    Args:
        quiet: Print errors only.
        json: Print one JSON document on stdout instead of tables.
    """

    def __init__(self, *, quiet: bool = False, json: bool = False) -> None:
        self._quiet = quiet
        self._json = json
        self._has_document = False
        self._out = _Rich(stderr=False)
        self._err = _Rich(stderr=True)

    @property
    def width(self) -> int:
        """Width of results, in columns."""
        return self._out.width

    def result(self, renderable: RenderableType) -> None:
        """Print a result on stdout."""
        if not self._quiet and not self._json:
            is_text = isinstance(renderable, str)
            self._out.print(Text(_shown(str(renderable))) if is_text else renderable)

    @contextmanager
    def live(self, *, plain_seconds: float = _PLAIN_SECONDS) -> Iterator[Show]:
        """Show a result that changes: in its place on a terminal, elsewhere as lines.

        Args:
            plain_seconds: Seconds after which a line is printed anew although only details of it
                are new.

        Yields:
            A function to call with what is to be seen: sections, each with a headline that says
            what is more than a detail.
        """
        if self._quiet or self._json:
            yield lambda sections: None
        elif self._out.is_terminal and not self._out.no_color:
            with Live(console=self._out, auto_refresh=False) as screen:
                yield lambda sections: screen.update(
                    Text("\n".join("\n  ".join(s.printable()) for s in sections)), refresh=True
                )
        else:
            yield _PlainLines(self._out, plain_seconds).show

    def plain(self, text: str) -> None:
        """Print text on stdout as it is, whatever it contains: UTF-8 if a program reads it."""
        out = self._out.file
        with self._out.outliving_its_reader():
            if isinstance(out, io.TextIOWrapper) and not self._out.is_terminal:
                out.flush()
                out.buffer.write(text.encode("utf-8", "surrogateescape"))
            else:
                out.write(text)
            out.flush()

    def document(self, document: Mapping[str, Any]) -> None:
        """Print the command's JSON document, if one was asked for."""
        if self._json:
            text = json_library.dumps(document, indent=2, allow_nan=False)
            self._has_document = True
            self.plain(text + "\n")

    def failed(self, error: NessError) -> None:
        """Print a failure as the JSON document, if one was asked for and none is printed yet."""
        if not self._has_document:
            self.document(error.document())

    def note(self, text: str) -> None:
        """Print a line of chatter."""
        if not self._quiet:
            self._err.print(Text(_shown(text)), soft_wrap=True)

    def complaint(self, text: str) -> None:
        """Print a line on stderr that ``--quiet`` does not silence."""
        self._err.print(Text(_shown(text)), soft_wrap=True)

    def next(self, command: str) -> None:
        """Print the next command to type."""
        if not self._quiet:
            self._err.print(
                Text.assemble(("Next: ", "dim"), (_shown(command), "bold")), soft_wrap=True
            )

    def error(self, error: NessError) -> None:
        """Print what is wrong, and on a second line what to do; as a document too."""
        self.failed(error)
        if error.is_told:
            return
        for label, style, text in zip(
            error.labels, ("bold red", "bold"), (error.what, error.remedy), strict=True
        ):
            if text:
                self._err.print(Text.assemble((label, style), _shown(text)), soft_wrap=True)

    @contextmanager
    def track(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Follow a piece of work: a bar with ETA on a terminal, a line now and then elsewhere."""
        if self._quiet:
            yield _ignore
        elif self._err.is_terminal and not self._err.no_color:
            with self._bar(description, total, done) as advance:
                yield advance
        else:
            yield _PlainTracker(self, description, total, done).advance

    @contextmanager
    def _bar(self, description: str, total: int, done: int) -> Iterator[Advance]:
        with RichProgress(
            *_bar_columns(self._err.width), console=self._err, transient=True, expand=True
        ) as progress:
            name = printable(description)
            task = progress.add_task(name, total=total, completed=done, info="")

            def advance(n: int = 1, info: str = "") -> None:
                progress.update(task, advance=n, info=printable(info))

            yield advance


def _shown(text: str) -> str:
    """Return text in which nothing commands a terminal, as the name of a file may.

    Further lines of a message are indented; any other line break is that of a name, which could
    pretend to be a message of its own.
    """
    return re.sub(r"\n(?!  )", r"\\n", printable(text, keep="\n\t"))


def _bar_columns(width: int) -> list[ProgressColumn]:
    """Return the columns of a progress bar that fit one line of a terminal.

    The line of information has what the others leave, and is cut or left out where that is little.
    """
    is_narrow = width < _WIDE
    most = max(8, width - (_NARROW_COLUMNS if is_narrow else _WIDE_COLUMNS))
    name = Column(no_wrap=True, overflow="ellipsis", max_width=most)
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return [
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(bar_width=8 if is_narrow else 20),
        TaskProgressColumn(),
        TextColumn("{task.fields[info]}", markup=False, table_column=rest),
        *([] if is_narrow else [TimeElapsedColumn()]),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]


@dataclass(frozen=True)
class Section:
    """A part of what changes.

    Attributes:
        key: What it is printed for at once when it changes, where there is no terminal.
        line: What it says.
        details: Lines below, on a terminal.
    """

    key: str
    line: str
    details: tuple[str, ...] = ()

    def printable(self) -> list[str]:
        """Return its lines, with nothing in them that commands a terminal."""
        return [printable(line) for line in (self.line, *self.details)]


Show = Callable[[Sequence[Section]], None]


class _PlainLines:
    """Sections that are new, as lines."""

    def __init__(self, out: RichConsole, seconds: float) -> None:
        self.out, self.seconds = out, seconds
        self.shown: dict[int, tuple[float, Section]] = {}

    def show(self, sections: Sequence[Section]) -> None:
        now = time.monotonic()
        for index, section in enumerate(sections):
            at, before = self.shown.get(index, (0.0, None))
            is_news = before is None or before.key != section.key
            if is_news or (before != section and now - at >= self.seconds):
                self.shown[index] = now, section
                self.out.print(Text("; ".join(section.printable())), soft_wrap=True)


class _PlainTracker:
    """Progress as plain lines, at most one every ten seconds."""

    def __init__(self, console: Console, description: str, total: int, done: int) -> None:
        self.console, self.description, self.total = console, description, total
        self.done = done
        self.started = self.last = time.monotonic()
        self.first_done: int | None = None

    def advance(self, n: int = 1, info: str = "") -> None:
        self.done += n
        if self.first_done is None:
            # What a resumed step had done before says nothing about the speed now.
            self.first_done, self.started = self.done, time.monotonic()
        now = time.monotonic()
        if now - self.last < _PLAIN_SECONDS:
            return
        self.last = now
        said = [f"{100 * self.done // max(1, self.total)} %", info]
        if (fresh := self.done - self.first_done) > 0:
            left = (now - self.started) * (self.total - self.done) / fresh
            said.append(f"about {left:.0f} s left")
        self.console.note(f"{self.description}: {', '.join(filter(None, said))}")


class _Rich(RichConsole):
    """rich's console without markup: what a user named ``[a]`` is shown as ``[a]``."""

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        # Asked now: one that was hung up does not call itself a terminal any more.
        self._is_on_terminal = self.is_terminal
        if not self.is_terminal and "COLUMNS" not in self._environ:
            self.width = _PLAIN_WIDTH

    def _check_buffer(self) -> None:
        with self.outliving_its_reader():
            super()._check_buffer()

    @contextmanager
    def outliving_its_reader(self) -> Iterator[None]:
        """Write in here; what a pipe without a reader or a terminal that is gone refuses is lost.

        Raises:
            OSError: If the system refuses for another reason.
        """
        try:
            yield
        except OSError as error:
            is_hung_up = error.errno == errno.EIO and self._is_on_terminal
            if not is_hung_up and not isinstance(error, BrokenPipeError):
                raise
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Go on in silence when a reader has gone away, as in ``ness run ... | head -1``.

        rich would end the process here, with the work half done.
        """
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
