"""Run a study, a grid of runs, and tabulate it. Typed again, it goes on where it stopped.

    python studies/run.py studies/bounded.yaml --out runs/bounded --rows hard bounded sgp --jobs 2

Settings after ``--`` go to every row: ``-- data.source=image-folder data.path=cifar100.zip``. The
table, in OUT/table.md and OUT/table.json, lists every row; those without runs as not run.

A study may have ``choices`` of a row: lists of settings, of which the one with the best validation
accuracy after the first tasks of one seed (``choose``) is taken. Its run goes on from there. Once
all rows are through, the best of them, by validation images too, get more seeds (``again``).
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ness_cli.results.number_formats import human_bytes
from ness_cli.stages.report import report

COLUMNS = ("acc", "bwt", "learning_accuracy")
HEADS = ("row", "seeds", "chosen", "ACC", "BWT", "learned", "kept", "images", "seconds")
KEPT = ("memory_bytes", "image_bytes")
VALIDATION = ("validation ACC", "validation BWT")


@dataclass(frozen=True)
class Study:
    """A study and where it is run.

    Attributes:
        content: The study's file.
        arguments: The command line.
    """

    content: dict
    arguments: argparse.Namespace

    @property
    def seeds(self) -> list[int]:
        """Seeds of every row."""
        full = "full_seeds" if self.arguments.full else "seeds"
        return self.arguments.seeds or self.content[full]

    def candidates(self, row: str) -> dict[Path, list[str]]:
        """Return the settings that a row is chosen among, by the folder of their runs."""
        own, folder = self.content["rows"][row], self.arguments.out / row
        choices = self.content.get("choices", {}).get(row)
        if choices is None:
            return {folder: own}
        return {folder / ",".join(map(_short, choice)): [*own, *choice] for choice in choices}

    def chosen(self, row: str) -> Path | None:
        """Return the folder of the chosen runs; ``None`` while candidates are missing."""
        folders = list(self.candidates(row))
        if len(folders) == 1:
            return folders[0]
        scores = {folder: self._score(folder) for folder in folders}
        known = {folder: score for folder, score in scores.items() if score is not None}
        return max(known, key=known.__getitem__) if len(known) == len(folders) else None

    def _score(self, folder: Path) -> float | None:
        """Return validation ACC after the tasks that choices are made by; ``None`` before them."""
        rule = self.content["choose"]
        rows = [run["validation"] for run in reported(folder) if run["seed"] == rule["seed"]]
        matrix = rows[0]["matrix"] if rows and rows[0] else []
        row = matrix[rule["tasks"] - 1] if len(matrix) >= rule["tasks"] else None
        return statistics.fmean(row[: rule["tasks"]]) if row else None

    def command(self, row: str, folder: Path, seeds: Sequence[int], *more: str) -> list[str]:
        """Return the command of the runs in a folder, as typed after ``ness``."""
        arguments = self.arguments
        return [
            *("run", "--preset", self.content["full" if arguments.full else "base"]),
            *("--seeds", ",".join(map(str, seeds)), "--out", str(folder)),
            *("--jobs", str(arguments.jobs), "--device", arguments.device),
            *(["--threads", str(arguments.threads)] if arguments.threads else []),
            *more,
            *self.content["settings"],
            *self.candidates(row)[folder],
            *arguments.settings,
        ]

    def run(self, row: str) -> None:
        """Choose among the candidates of a row, and run the one chosen."""
        candidates, rule = self.candidates(row), self.content.get("choose")
        if len(candidates) > 1:
            for folder in candidates:
                _ness(self.command(row, folder, [rule["seed"]], "--until", str(rule["tasks"])))
        folder = self.chosen(row)
        assert folder is not None, f"{row}: no validation accuracies to choose by"
        _ness(self.command(row, folder, self.seeds))

    def run_again(self) -> None:
        """Run the best rows with more seeds."""
        rule = self.content["again"]
        found = {row: self.results(row) for row in self.content["rows"] if row not in rule["but"]}
        scores = {row: runs[0]["validation"]["acc"] for row, runs in found.items() if runs}
        for row in sorted(scores, key=scores.__getitem__, reverse=True)[: rule["best"]]:
            folder = self.chosen(row)
            assert folder is not None
            _ness(self.command(row, folder, rule["seeds"]))

    def results(self, row: str) -> list[dict]:
        """Return the report's runs of a row that have all their tasks."""
        folder = self.chosen(row)
        runs = reported(folder) if folder is not None else []
        return [run for run in runs if run["tasks_done"] == run["num_tasks"]]

    def write(self) -> None:
        """Write the table of what there is."""
        results = {row: self.results(row) for row in self.content["rows"]}
        validated = all(run["validation"] for runs in results.values() for run in runs)
        heads = [*HEADS, *VALIDATION * validated]
        lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        for row, runs in results.items():
            if runs:
                lines.append(f"| {' | '.join(self._cells(row, runs)[: len(heads)])} |")
        missing = [row for row, runs in results.items() if not runs]
        if missing:
            lines += ["", "Not run:", "", *(f"- {row}: `{self._typed(row)}`" for row in missing)]
        out = self.arguments.out
        out.mkdir(parents=True, exist_ok=True)
        (out / "table.md").write_text("\n".join(lines) + "\n")
        (out / "table.json").write_text(json.dumps(results, indent=2) + "\n")

    def _cells(self, row: str, runs: list[dict]) -> list[str]:
        folder, costs = self.chosen(row), runs[-1]["costs"]
        assert folder is not None
        seconds = [
            sum(filter(None, [*r["seconds"]["train"], *r["seconds"]["build"]])) for r in runs
        ]
        validation = [run["validation"] for run in runs]
        return [
            row,
            ", ".join(str(run["seed"]) for run in runs),
            folder.name if folder.name != row else "",
            *(_spread([run[column] for run in runs]) for column in COLUMNS),
            *("-" if costs[k] is None else human_bytes(costs[k]) for k in KEPT),
            _spread(seconds, digits=0),
            *(_spread([own[c] if own else None for own in validation]) for c in COLUMNS[:2]),
        ]

    def _typed(self, row: str) -> str:
        """Return the command that runs a row: its own, or that of the study while it is chosen."""
        if len(self.candidates(row)) == 1:
            (folder,) = self.candidates(row)
            return shlex.join(["ness", *self.command(row, folder, self.seeds)])
        own = ["python", "studies/run.py", str(self.arguments.study), "--rows", row]
        settings = ["--", *self.arguments.settings] if self.arguments.settings else []
        return shlex.join([*own, "--out", str(self.arguments.out), *settings])


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    study = Study(yaml.safe_load(arguments.study.read_text()), arguments)
    rows = study.content["rows"]
    unknown = [row for row in arguments.rows or () if row not in rows]
    if unknown:
        sys.exit(f"no such rows: {', '.join(unknown)}; there are {', '.join(rows)}")
    if arguments.tabulate:
        study.write()
    else:
        for row in arguments.rows or rows:
            print(f"== {row}", file=sys.stderr)
            study.run(row)
            study.write()
        if "again" in study.content and not arguments.rows:
            study.run_again()
            study.write()
    print((arguments.out / "table.md").read_text())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", help="default: all, in order")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: those of the study")
    parser.add_argument("--full", action="store_true", help="the published length")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--tabulate", action="store_true", help="run nothing, tabulate what is there"
    )
    own, settings = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, settings = own[:cut], own[cut + 1 :]
    arguments = parser.parse_args(own)
    arguments.settings = settings
    return arguments


def _ness(command: list[str]) -> None:
    """Run a command of ours; where it does not end well, end with its code."""
    done = subprocess.run([sys.executable, "-m", "ness_cli", *command], stdout=subprocess.DEVNULL)
    if done.returncode:
        sys.exit(done.returncode)  # 75 if it was stopped: the same command goes on


def reported(folder: Path) -> list[dict]:
    """Return what the report says of every run below a folder."""
    runs = sorted(path.parent for path in folder.glob("**/run.json"))
    return report(runs).document()["runs"] if runs else []


def _short(assignment: str) -> str:
    """Return a setting without its section: ``strength=500``."""
    key, _, value = assignment.partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def _spread(values: list[float | None], digits: int = 2) -> str:
    if None in values:
        return "-"  # measured for the last task only
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
