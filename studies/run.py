"""Run a study, a grid of runs, and tabulate it. Typed again, it goes on where it stopped.

    python studies/run.py studies/bounded.yaml --out runs/bounded --rows hard bounded sgp --jobs 2

Settings after ``--`` go to every row: ``-- data.source=image-folder data.path=cifar100.zip``. The
table, in OUT/table.md and OUT/table.json, lists every row; those without runs as not run.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

import yaml

COLUMNS = ("acc", "bwt", "learning_accuracy")


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    study = yaml.safe_load(arguments.study.read_text())
    prefix = "full" if arguments.full else "base"
    preset = study[prefix]
    seeds = arguments.seeds or study["full_seeds" if arguments.full else "seeds"]
    unknown = [row for row in arguments.rows or () if row not in study["rows"]]
    if unknown:
        sys.exit(f"no such rows: {', '.join(unknown)}; there are {', '.join(study['rows'])}")
    commands = {
        row: [
            *(sys.executable, "-m", "ness_cli", "run", "--preset", preset),
            *("--seeds", ",".join(map(str, seeds)), "--out", str(arguments.out / row)),
            *("--jobs", str(arguments.jobs), "--device", arguments.device),
            *(["--threads", str(arguments.threads)] if arguments.threads else []),
            *study["settings"],
            *settings,
            *arguments.settings,
        ]
        for row, settings in study["rows"].items()
    }
    if arguments.tabulate:
        _write(arguments.out, study, commands)
    for row in () if arguments.tabulate else arguments.rows or commands:
        print(f"== {row}", file=sys.stderr)
        done = subprocess.run(commands[row], stdout=subprocess.DEVNULL)
        if done.returncode:
            sys.exit(done.returncode)  # 75 if it was stopped: the same command goes on
        _write(arguments.out, study, commands)
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


def _results(folder: Path) -> list[dict]:
    """Return the report's runs in a row's folder that have all their tasks."""
    runs = sorted(path.parent for path in folder.glob("**/run.json"))
    if not runs:
        return []
    command = [sys.executable, "-m", "ness_cli", "report", "--json", *map(str, runs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found = json.loads(done.stdout)["runs"]
    return [run for run in found if run["tasks_done"] == run["num_tasks"]]


def _write(out: Path, study: dict, commands: dict[str, list[str]]) -> None:
    results = {row: _results(out / row) for row in study["rows"]}
    lines = [
        "| row | seeds | ACC | BWT | right after learning | validation ACC | validation BWT |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, runs in results.items():
        if not runs:
            continue
        seeds = ", ".join(str(run["seed"]) for run in runs)
        cells = [_spread([run[column] for run in runs]) for column in COLUMNS]
        validation = [run["validation"] for run in runs]
        cells += [
            _spread([each[column] for each in validation]) if all(validation) else "-"
            for column in COLUMNS[:2]
        ]
        lines.append(f"| {row} | {seeds} | {' | '.join(cells)} |")
    missing = [row for row, runs in results.items() if not runs]
    if missing:
        lines += ["", "Not run:", ""]
        lines += [f"- {row}: `{shlex.join(['ness', *commands[row][3:]])}`" for row in missing]
    out.mkdir(parents=True, exist_ok=True)
    (out / "table.md").write_text("\n".join(lines) + "\n")
    (out / "table.json").write_text(json.dumps(results, indent=2) + "\n")


def _spread(values: list[float | None]) -> str:
    if None in values:
        return "-"  # measured for the last task only
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    main()
