"""Where numbers come from: settings, the commands that repeat them, machines and versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ness_cli.results.read_run import RunResult
from ness_cli.results.summary import Group
from ness_cli.results.table import Table, plain_table, titled
from ness_cli.settings import yaml_files
from ness_cli.settings.precedence import COMMAND_LINE

_SHOWN_DIGITS = 12  # of hashes
_PLACE = "data.path"


def commands(group: Group) -> list[str]:
    """Return the commands that make an experiment anew, and show it.

    Settings that decide no number are left out. Where images lie is for whoever types it to say.
    """
    record = group.runs[0].record
    identity, origins = record["identity"], record.get("origins", {})
    seeds = ",".join(map(str, sorted(group.seeds)))
    words = ["ness", "run", "--preset", group.preset, "--out", "runs/again", "--seeds", seeds]
    typed = {key for key, origin in origins.items() if origin == COMMAND_LINE} - {"seed"}
    words += [f"{key}={yaml_files.typed(identity[key])}" for key in sorted(typed & {*identity})]
    words += [f"{_PLACE}=IMAGES"] if _PLACE in typed else []
    return [shlex.join(words), "ness report runs/again"]


def settings_table(group: Group) -> Table:
    """Return the settings that decide the numbers of an experiment, and where each comes from."""
    table = plain_table("setting", "value", "from", left=3)
    origins = group.runs[0].record.get("origins", {})
    for key, value in sorted(group.identity.items()):
        if key == "seed":
            continue
        origin = str(origins.get(key, "default"))
        table.add_row(key, yaml_files.typed(value), origin, is_faint=origin == "default")
    return titled("Settings", table)


def runs_table(group: Group) -> Table:
    """Return when, where and with what the runs of an experiment were made."""
    table = plain_table(
        *("run", "prepared", "finished", "device", "torch", "python", "fingerprint"),
        *("seed", "threads"),
        left=7,
    )
    for run in group.runs:
        last = _last_record(run)
        versions = run.record.get("versions", {})
        table.add_row(
            str(run.path),
            _known(run.record, "created"),
            _known(last, "finished"),
            _known(last, "device"),
            _known(versions, "torch"),
            _known(versions, "python"),
            str(run.record["fingerprint"])[:_SHOWN_DIGITS],
            str(run.record["seed"]),
            _known(last, "threads"),
        )
    images = str(group.runs[0].record.get("content", group.runs[0].record["stream_key"]))
    note = f"images: {images[:_SHOWN_DIGITS]}; fingerprint: of all settings that decide tensors"
    return titled("Runs", table, note)


def _last_record(run: RunResult) -> Mapping[str, Any]:
    records = [step.record for step in run.state.steps if step.record]
    return records[-1] if records else {}


def _known(record: Mapping[str, Any], key: str) -> str:
    return str(record.get(key, "-"))
