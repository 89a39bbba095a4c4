"""Managed jobs of SkyPilot: a YAML file for each run, to be launched by hand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ness_cli.errors import SettingsError
from ness_cli.files import write_bytes
from ness_cli.settings import yaml_files
from ness_cli.settings.engines.sky import Options
from ness_cli.study.engines.base import INTERRUPTED, Engine, Job

_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")


class Sky(Engine):
    """Writes the files of managed jobs into the folder of the study.

    The run folders are in a bucket, which every machine mounts; a machine that is taken away is
    replaced, and the run goes on from its last checkpoint.
    """

    options: Options

    def dry_run(self, jobs: Sequence[Job]) -> str:
        """Return the files, one after another."""
        return "---\n".join(f"# {self._file(job)}\n{self._text(job)}" for job in jobs)

    def run(self, jobs: Sequence[Job], watch: Callable[[], None]) -> bool:
        """Write the files, and say how they are launched."""
        for job in jobs:
            write_bytes(self._file(job), self._text(job).encode())
        self.workplace.progress.note(
            f"written: {len(jobs)} files below {self.folder / '.sky'}; launch each with:"
            " sky jobs launch --yes --detach-run FILE"
        )
        return False

    def _file(self, job: Job) -> Path:
        return self.folder / ".sky" / f"{job.name}.yaml"

    def _text(self, job: Job) -> str:
        task = yaml_files.dump(self._task(job))
        wheel = f"{shlex.quote(self.options.mount)}/ness_cli-*.whl"
        setup = _block(self.options.setup or [f"pip install {wheel}"])
        run = _block(self._commands(job))
        return f"{task}setup: |\n{setup}run: |\n{run}"

    def _task(self, job: Job) -> dict[str, Any]:
        """Return a task in SkyPilot's terms, but for its commands.

        Raises:
            SettingsError: If no bucket is named.
        """
        options = self.options
        if options.bucket is None:
            raise SettingsError(
                "engines.sky.bucket: where the run folders are to be is not named",
                "name a bucket, as in engines.sky.bucket=my-runs",
            )
        resources: dict[str, Any] = {
            "cpus": f"{self.threads}+",
            "use_spot": options.spot,
            "job_recovery": {"recover_on_exit_codes": [INTERRUPTED]},
        }
        for key in ("infra", "accelerators", "memory"):
            if (value := getattr(options, key)) is not None:
                resources[key] = value
        return {
            "name": _NOT_IN_A_NAME.sub("-", f"{self.folder.name}-{job.name}".lower()).strip("-"),
            "resources": resources,
            "file_mounts": {options.mount: {"name": options.bucket, "mode": "MOUNT"}},
        }

    def _commands(self, job: Job) -> list[str]:
        """Return the command with its folder in the bucket; its exit code is what counts there."""
        place = f"{self.options.mount}/{self.folder.name}/{job.name}"
        words = ["ness", *(place if word == str(job.run) else word for word in job.command)]
        return [
            f"mkdir -p {shlex.quote(str(Path(place).parent))}",
            "code=0",
            f"{shlex.join(words)} >/dev/null 2>>{shlex.quote(place + '.log')} || code=$?",
            f'echo "$code" >{shlex.quote(place + ".exit")}',
            'exit "$code"',
        ]


def _block(lines: Sequence[str]) -> str:
    return "".join(f"  {line}\n" for line in lines)
