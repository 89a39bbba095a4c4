"""What ``reproduce`` does: run the seeds of a preset, compare, write the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ness_cli.cli.run_targets import run_targets
from ness_cli.cli.targets import Target, targets
from ness_cli.console import Console
from ness_cli.files import write_json
from ness_cli.results.read_run import read_run
from ness_cli.results.reproduction import Reproduction, compare
from ness_cli.results.summary import Group
from ness_cli.settings.resolve import resolve
from ness_cli.settings.scaled_down import scaled_down
from ness_cli.stop import StopRequest

_QUICK_TASKS = 3
# Where the same images come from is no departure from a preset.
_HARMLESS = ("data.source", "data.path", "data.download", "checkpoint.", "storage.")


def reproduce_preset(
    preset: str,
    overrides: Sequence[str],
    console: Console,
    stop: StopRequest,
    *,
    quick: bool,
    seeds: str | None,
    out: Path | None,
    device: str,
    threads: int | None,
    jobs: int,
) -> Reproduction:
    """Run every seed to its end and return the comparison, which is also written and shown.

    Raises:
        NessError: Whatever a run raises.
    """
    about = resolve(preset, overrides).about
    wanted = seeds or ",".join(map(str, about.seeds[:1] if quick else about.seeds))
    parent = out or Path("runs") / f"reproduce-{Path(preset).stem}{'-quick' if quick else ''}"
    found = targets(preset, parent, seed=None, seeds=wanted, overrides=overrides)
    at_most = None
    if quick:
        found = [Target(target.run, scaled_down(target.resolved)) for target in found]
        about, at_most = found[0].resolved.about, _QUICK_TASKS
    document = run_targets(
        found,
        console,
        stop,
        until=None,
        device=device,
        threads=threads,
        at_most=at_most,
        jobs=jobs,
    )
    runs = tuple(read_run(target.run.path) for target in found)
    reproduction = compare(Group(runs), about, num_tasks=runs[0].state.num_tasks)
    notes = [reproduction.note]
    if quick:
        notes = ["--quick: a smoke test on a few images; nothing is compared"]
    changed = [each for each in overrides if not each.startswith(_HARMLESS)]
    if changed:
        notes.append(f"changed from the preset: {' '.join(changed)}")
    reproduction = replace(reproduction, note="; ".join(notes))
    write_json(parent / "reproduction.json", reproduction.as_json())
    console.result("")
    console.result(reproduction.table())
    console.document({**document, "reproduction": reproduction.as_json()})
    console.note(f"{parent / 'reproduction.json'} is written")
    return reproduction
