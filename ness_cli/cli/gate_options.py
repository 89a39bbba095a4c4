"""The options of ``ness report`` that judge its results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "Gates"
_MEAN = "Of the mean of every group over the tasks done, percent; exit code 3 if it is missed."

MinAcc = Annotated[
    float | None,
    typer.Option(help=f"Least ACC. {_MEAN}", show_default=False, rich_help_panel=_PANEL),
]
MinBwt = Annotated[
    float | None, typer.Option(help="Least BWT.", show_default=False, rich_help_panel=_PANEL)
]
MaxForgetting = Annotated[
    float | None, typer.Option(help="Most forgetting.", show_default=False, rich_help_panel=_PANEL)
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        help="A report saved as JSON before: ACC and BWT must not be lower, forgetting not higher.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
Tolerance = Annotated[
    float | None,
    typer.Option(
        help="Points by which a result may be worse than the baseline. Default: 0.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
RequireComplete = Annotated[
    bool,
    typer.Option("--require-complete", help="Every run must be finished.", rich_help_panel=_PANEL),
]
Github = Annotated[
    bool,
    typer.Option(
        "--github", help="Annotate failed gates in a GitHub workflow.", rich_help_panel=_PANEL
    ),
]
Junit = Annotated[
    Path | None,
    typer.Option(
        help="Write the verdicts into this file as JUnit XML.",
        show_default=False,
        rich_help_panel=_PANEL,
    ),
]
