"""Tables of what a run is to be, or was prepared to be: settings, tasks, layers, disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ness_cli.results.number_formats import human_bytes
from ness_cli.results.step_tables import frozen_note
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.settings.resolve import Resolved
from ness_cli.settings.yaml_files import typed
from ness_cli.words import counted


def settings_table(resolved: Resolved) -> Table:
    """Return the table of all settings, as they are typed, and where each comes from.

    A null that stands for a value is shown as that value.
    """
    table, in_effect = plain_table("key", "value", "from", left=3), resolved.settings.in_effect()
    for key, value in resolved.settings.flat().items():
        # Of a group with keys of its own, as layers by name, each value has an origin.
        own = (o for k, o in resolved.origins.items() if k == key or k.startswith(f"{key}."))
        origin = ", ".join(dict.fromkeys(own)) or "default"
        note = " (stored as null)" if key in in_effect else ""
        table.add_row(key, typed(in_effect.get(key, value)), f"{origin}{note}")
    return titled("Settings", table)


def tasks_table(manifest: Mapping[str, Any], splits: Sequence[str], title: str) -> Table:
    """Return the table of tasks: classes, counts, bytes, and what is missing.

    Args:
        manifest: Description of the stream, planned or prepared.
        splits: Names of the splits in their order: a manifest that was stored comes back sorted.
        title: What stands above, before the shape of the images.
    """
    channels, height, width = manifest["image_shape"]
    what = f"{counted(len(manifest['tasks']), 'task')} of {channels} x {height} x {width} images"
    table = plain_table("task", "name", "from, to", "classes", *splits, "bytes", left=3)
    for task in manifest["tasks"]:
        parts, names = [task["splits"][name] for name in splits], task["classes"]
        table.add_row(
            str(task["number"]),
            task["name"],
            names[0] if len(names) == 1 else f"{names[0]}, {names[-1]}",
            str(len(names)),
            *(str(part["count"]) for part in parts),
            human_bytes(sum(part["bytes"] for part in parts)),
        )
    for each in manifest.get("missing", ()):
        table.add_row("?", "missing", each["what"], *[""] * 5)
    return titled(f"{title}: {what}", table)


def layers_table(layers: Sequence[Mapping[str, Any]], frozen: Mapping[str, int]) -> Table:
    """Return the table of layers that tasks after the first train in.

    Args:
        layers: Name, width of input ``d`` and outputs ``out`` of each.
        frozen: Sizes of the parameters that they do not train, by name.
    """
    table = plain_table("layer", "d", "outputs")
    for layer in layers:
        table.add_row(layer["layer"], str(layer["d"]), str(layer["out"]))
    title = "Layers that tasks after the first train in; d: width of an input row"
    return titled(title, table, frozen_note(frozen))


def disk_table(
    manifest: Mapping[str, Any],
    bytes_per_task: Mapping[str, int],
    *,
    keep: str,
    total: int,
    build_memory: int,
) -> Table:
    """Return the table of what a run takes on disk and in memory.

    Args:
        manifest: Description of the stream.
        bytes_per_task: Bytes of each file of a task, at most.
        keep: ``storage.keep``.
        total: Bytes of the whole run with it, at most.
        build_memory: Bytes of memory that build-subspace takes; 0 if it takes none.
    """
    images = sum(split["bytes"] for task in manifest["tasks"] for split in task["splits"].values())
    table = plain_table("what", "bytes")
    table.add_row("prepared images, shared by all runs", human_bytes(images))
    for name, size in bytes_per_task.items():
        table.add_row(f"each task: {name}, at most", human_bytes(size))
    table.add_row(f"the whole run, storage.keep={keep}", human_bytes(total))
    if build_memory:
        table.add_row("memory of build-subspace, about", human_bytes(build_memory))
    return titled("Disk and memory", table)
