"""What ``prepare`` shows and does; ``run`` does it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group

from ness_cli.cli.session import cache_dir
from ness_cli.cli.single_step import frozen_note
from ness_cli.cli.targets import Target
from ness_cli.console import Console
from ness_cli.data.stream_notes import stream_notes
from ness_cli.data.task_stream import SPLITS
from ness_cli.errors import MissingFilesError
from ness_cli.results.plain_table import plain_table, titled
from ness_cli.results.units import human_bytes
from ness_cli.run_state import read_state
from ness_cli.settings.resolve import Resolved
from ness_cli.settings.yaml_files import typed
from ness_cli.stages.context import Workplace
from ness_cli.stages.plan import Plan, plan_run
from ness_cli.stages.prepare import prepare
from ness_cli.stop import StopRequest
from ness_cli.words import counted


def prepare_targets(
    found: Sequence[Target],
    console: Console,
    stop: StopRequest,
    *,
    device: str,
    threads: int | None,
    verify_data: bool,
) -> None:
    """Prepare every run and show its tasks."""
    place = Workplace(cache_dir(), device, threads, console, stop)
    place.torch_device()  # refused before a lock file is put anywhere
    documents = []
    for target in found:
        run = target.run
        with run.lock():
            prepared = prepare(run, target.resolved, place, verify_data=verify_data)
            following = read_state(run).next_command()
        if prepared.was_there:
            files = " and from the same files" if prepared.was_compared else ""
            console.note(f"{run.path} was prepared before with the same settings{files}")
        console.result(tasks_table(prepared.manifest, str(run.path)))
        console.next(following)
        documents.append(
            {
                "run": str(run.path),
                "was_there": prepared.was_there,
                "was_compared": prepared.was_compared,
                "about": dict(prepared.about),
                "stream": dict(prepared.manifest),
                "next": following,
            }
        )
        stop.check(f"{run.path} is prepared", "the same command")
    console.document({"schema": "ness.prepare/1", "runs": documents})


def show_plan(found: Sequence[Target], console: Console) -> None:
    """Show what preparing would do, writing nothing."""
    documents, missing = [], None
    for target in found:
        resolved = target.resolved
        plan = plan_run(resolved.settings)
        console.result(_settings_table(resolved))
        console.result(tasks_table(plan.manifest, str(target.run.path)))
        console.result(_layers_table(plan))
        console.result(_disk_table(resolved, plan))
        for note in stream_notes(plan.manifest):
            console.note(note)
        missing = missing or missing_files(plan.manifest)
        documents.append(
            {
                "run": str(target.run.path),
                "settings": resolved.settings.to_dict(),
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


def missing_files(manifest: Mapping[str, Any]) -> MissingFilesError | None:
    """Return what keeps data sets of a planned stream from being listed, if anything does."""
    if not manifest["missing"]:
        return None
    return MissingFilesError(
        "; ".join(each["what"] for each in manifest["missing"]),
        "; ".join(each["remedy"] for each in manifest["missing"]),
    )


def tasks_table(manifest: Mapping[str, Any], title: str) -> Group:
    """Return the table of tasks: classes, counts, bytes, and what is missing."""
    channels, height, width = manifest["image_shape"]
    what = f"{counted(len(manifest['tasks']), 'task')} of {channels} x {height} x {width} images"
    table = plain_table("task", "name", "from, to", "classes", *SPLITS, "bytes", left=3)
    for task in manifest["tasks"]:
        # By name: a manifest that was stored comes back sorted.
        splits, names = [task["splits"][name] for name in SPLITS], task["classes"]
        table.add_row(
            str(task["number"]),
            task["name"],
            names[0] if len(names) == 1 else f"{names[0]}, {names[-1]}",
            str(len(names)),
            *(str(split["count"]) for split in splits),
            human_bytes(sum(split["bytes"] for split in splits)),
        )
    for each in manifest.get("missing", ()):
        table.add_row("?", "missing", each["what"], *[""] * 5)
    return titled(f"{title}: {what}", table)


def _settings_table(resolved: Resolved) -> Group:
    table, in_effect = plain_table("key", "value", "from", left=3), resolved.settings.in_effect()
    for key, value in resolved.settings.flat().items():
        # Of a group with keys of its own, as layers by name, each value has an origin.
        own = (o for k, o in resolved.origins.items() if k == key or k.startswith(f"{key}."))
        origin = ", ".join(dict.fromkeys(own)) or "default"
        note = f", in effect {typed(in_effect[key])}" if key in in_effect else ""
        table.add_row(key, typed(value), f"{origin}{note}")
    return titled("Settings", table)


def _layers_table(plan: Plan) -> Group:
    table = plain_table("layer", "d", "outputs")
    for layer in plan.layers:
        table.add_row(layer["layer"], str(layer["d"]), str(layer["out"]))
    title = "Layers that tasks after the first train in; d: width of an input row"
    return titled(title, table, frozen_note(plan.frozen))


def _disk_table(resolved: Resolved, plan: Plan) -> Group:
    manifest, sizes = plan.manifest, plan.bytes_per_task
    images = sum(split["bytes"] for task in manifest["tasks"] for split in task["splits"].values())
    table = plain_table("what", "bytes")
    table.add_row("prepared images, shared by all runs", human_bytes(images))
    for name, size in sizes.items():
        table.add_row(f"each task: {name}, at most", human_bytes(size))
    keep = resolved.settings.storage.keep
    table.add_row(f"the whole run, storage.keep={keep}", human_bytes(plan.total_bytes(keep)))
    if plan.build_memory:
        table.add_row("memory of build-subspace, about", human_bytes(plan.build_memory))
    return titled("Disk and memory", table)
