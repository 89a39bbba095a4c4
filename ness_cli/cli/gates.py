"""What ``ness report`` tells of its gates: a line for each that failed, and exit code 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from ness_cli.console import Console
from ness_cli.errors import SettingsError
from ness_cli.results.gate_files import github_annotations, write_junit
from ness_cli.results.gates import Limits, Verdict


@dataclass(frozen=True)
class Announcement:
    """Where verdicts are told besides the console.

    Attributes:
        github: Whether as annotations of GitHub.
        junit: File for JUnit XML.
    """

    github: bool = False
    junit: Path | None = None

    def refuse_without(self, limits: Limits) -> None:
        """Refuse to announce what nobody asked to have judged.

        Raises:
            SettingsError: If there is no limit.
        """
        if (self.github or self.junit) and not limits:
            option = "--github" if self.github else "--junit"
            raise SettingsError(
                f"{option}: there is no gate to tell of", "add one, as in --min-acc 90"
            )

    def make(self, verdicts: Sequence[Verdict], console: Console) -> None:
        """Tell of verdicts; a line for every failed gate, on stderr, and exit code 3.

        Raises:
            typer.Exit: If a gate failed.
        """
        if self.junit is not None:
            write_junit(verdicts, self.junit)
        failed = [each for each in verdicts if not each.passed]
        if self.github:
            # GitHub reads both streams of a step, and stdout is for results.
            for line in github_annotations(verdicts):
                console.complaint(line)
        for each in failed:
            console.complaint(f"gate failed: {each}")
        if verdicts and not failed:
            console.note(f"{len(verdicts)} of {len(verdicts)} gates passed")
        if failed:
            raise typer.Exit(3)
