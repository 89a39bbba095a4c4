"""What ``ness prepare --dry-run`` shows: what preparing would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ness_cli.cli.targets import Target, show_notes
from ness_cli.console import Console
from ness_cli.data.stream_notes import stream_notes
from ness_cli.data.task_stream import SPLITS
from ness_cli.errors import MissingFilesError
from ness_cli.results.plan_tables import disk_table, layers_table, settings_table, tasks_table
from ness_cli.results.table import Table
from ness_cli.stages.plan import Plan, plan_run


def show_plan(found: Sequence[Target], console: Console) -> None:
    """Show what preparing would do, writing nothing."""
    documents, missing = [], None
    show_notes(found, console)
    for target in found:
        resolved = target.resolved
        plan = plan_run(resolved.settings)
        console.result(settings_table(resolved))
        console.result(tasks_table(plan.manifest, SPLITS, str(target.run.path)))
        console.result(layers_table(plan.layers, plan.frozen))
        console.result(_disk_table(plan, resolved.settings.storage.keep))
        for note in stream_notes(plan.manifest):
            console.note(note)
        missing = missing or _missing_files(plan.manifest)
        documents.append(
            {
                "run": str(target.run.path),
                "settings": resolved.settings.to_dict(),
                "in_effect": resolved.settings.in_effect(),
                "origins": dict(resolved.origins),
                "stream": dict(plan.manifest),
                "layers": [dict(layer) for layer in plan.layers],
                "frozen": dict(plan.frozen),
                "bytes_per_task": dict(plan.bytes_per_task),
                "build_memory_bytes": plan.build_memory,
            }
        )
    console.document({"schema": "ness.plan/1", "runs": documents})
    if missing is not None:
        raise missing


def _missing_files(manifest: Mapping[str, Any]) -> MissingFilesError | None:
    """Return what keeps data sets of a planned stream from being listed, if anything does."""
    if not manifest["missing"]:
        return None
    return MissingFilesError(
        "; ".join(each["what"] for each in manifest["missing"]),
        "; ".join(each["remedy"] for each in manifest["missing"]),
    )


def _disk_table(plan: Plan, keep: str) -> Table:
    return disk_table(
        plan.manifest,
        plan.bytes_per_task,
        keep=keep,
        total=plan.total_bytes(keep),
        build_memory=plan.build_memory,
    )
