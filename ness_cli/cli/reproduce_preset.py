"""What ``reproduce`` does: run the seeds of a preset, compare, write the verdict."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ness_cli.cli.run_targets import Extent, run_targets
from ness_cli.cli.session import Session
from ness_cli.cli.targets import Target, targets
from ness_cli.files import write_json
from ness_cli.results.published import departures
from ness_cli.results.read_run import read_run
from ness_cli.results.reproduction import Reproduction, compare
from ness_cli.results.summary import Group
from ness_cli.settings.resolve import resolve
from ness_cli.settings.scaled_down import scaled_down

_QUICK_TASKS = 3


@dataclass(frozen=True)
class Request:
    """What is to be reproduced.

    Attributes:
        preset: Name of a preset, or a YAML file.
        overrides: Settings that are changed from it.
        seeds: Those to run, as in ``1,2,3``; the preset's when ``None``.
        out: Folder of the runs.
        quick: Make a smoke test on a few images, with one seed.
    """

    preset: str
    overrides: Sequence[str] = ()
    seeds: str | None = None
    out: Path | None = None
    quick: bool = False

    @property
    def folder(self) -> Path:
        """The folder of the runs and of the verdict."""
        name = f"reproduce-{Path(self.preset).stem}{'-quick' if self.quick else ''}"
        return self.out or Path("runs") / name

    def targets(self) -> list[Target]:
        """Return the runs, one per seed; errors as in ``targets``."""
        published = resolve(self.preset, self.overrides).about.seeds
        wanted = self.seeds or ",".join(map(str, published[:1] if self.quick else published))
        found = targets(self.preset, self.folder, seed=None, seeds=wanted, overrides=self.overrides)
        if self.quick:
            return [Target(target.run, scaled_down(target.resolved)) for target in found]
        return found

    def note(self, compared: str, departures: Collection[str]) -> str:
        """Return what a reader must know of the verdict.

        Args:
            compared: What comparing noted.
            departures: The settings that are not those of the preset.
        """
        notes = [compared]
        if self.quick:
            notes = ["--quick: a smoke test on a few images; nothing is compared"]
        changed = [each for each in self.overrides if each.partition("=")[0] in departures]
        if changed:
            notes.append(f"changed from the preset: {' '.join(changed)}")
        return "; ".join(notes)


def reproduce_preset(request: Request, workplace: Session, jobs: int) -> Reproduction:
    """Run every seed to its end and return the comparison, which is also written and shown.

    Args:
        request: What is to be reproduced.
        workplace: Where to work and to report.
        jobs: Runs at a time.

    Raises:
        NessError: Whatever a run raises.
    """
    console, found = workplace.console, request.targets()
    extent = Extent(at_most=_QUICK_TASKS if request.quick else None, jobs=jobs)
    document = run_targets(found, workplace, extent)
    runs = tuple(read_run(target.run.path) for target in found)
    group = Group(runs)
    reproduction = compare(group, found[0].resolved.about, num_tasks=runs[0].state.num_tasks)
    note = request.note(reproduction.note, departures(group))
    reproduction = replace(reproduction, note=note)
    verdict = request.folder / "reproduction.json"
    write_json(verdict, reproduction.as_json())
    console.result("")
    console.result(reproduction.table())
    console.document({**document, "reproduction": reproduction.as_json()})
    console.note(f"{verdict} is written")
    return reproduction
