"""Draw a study: mean accuracy over the tasks seen, and what was forgotten of each task.

python studies/plot.py runs/bounded/table.json docs/bounded.svg --rows hard bounded sgp
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from matplotlib.figure import Figure


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="table.json of ness study table")
    parser.add_argument("picture", type=Path, help=".svg, .png or .pdf")
    parser.add_argument("--rows", nargs="+", help="default: all that were run")
    arguments = parser.parse_args()
    document = json.loads(arguments.table.read_text())
    runs = {run["path"]: run for run in document["runs"]}
    table = {row["row"]: [runs[path] for path in row["runs"]] for row in document["rows"]}
    rows = {row: table[row] for row in arguments.rows or table}
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    seen, change = figure.subplots(1, 2)
    for row, runs in rows.items():
        label = f"{row} ({len(runs)} seed{'s' if len(runs) > 1 else ''})"
        tasks = range(1, runs[0]["num_tasks"] + 1)
        means = [[statistics.fmean(run["matrix"][t - 1][:t]) for run in runs] for t in tasks]
        seen.plot(tasks, [statistics.fmean(each) for each in means], marker="o", ms=3, label=label)
        moved = [
            statistics.fmean(run["matrix"][-1][t - 1] - run["matrix"][t - 1][t - 1] for run in runs)
            for t in tasks
        ]
        change.plot(tasks, moved, marker="o", ms=3)
    seen.set(xlabel="tasks learned", ylabel="mean test accuracy over them, %")
    change.set(xlabel="task", ylabel="accuracy at the end less that when learned, points")
    change.axhline(0, color="0.6", lw=0.8)
    seen.legend(fontsize=8)
    for panel in (seen, change):
        panel.grid(alpha=0.3)
        panel.set_xticks(list(tasks))
    figure.savefig(arguments.picture)


if __name__ == "__main__":
    main()
