"""The record of a step: what it read and wrote, how long it took. Its file marks it as done."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import torch

from ness_cli import run_state, tensor_files
from ness_cli.files import write_record
from ness_cli.methods.files import Tensors
from ness_cli.processes import current_processes
from ness_cli.stages.context import RunContext
from ness_cli.stages.run_files import RunFiles
from ness_cli.version import own_version


class StepRecord:
    """What a step reads, writes and measures, and the record that marks it as done.

    Args:
        context: The run.
        step: ``train``, ``build`` or ``evaluate``.
        task: Number of the task.

    Attributes:
        files: Reads tensor files, and remembers which.
    """

    def __init__(self, context: RunContext, step: str, task: int) -> None:
        self.context, self.step, self.task = context, step, task
        self.started = time.monotonic()
        self.files = RunFiles(context)
        self.outputs: dict[str, str] = {}
        self.bytes: dict[str, int] = {}
        if context.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(context.device)

    def write(self, name: str, tensors: Tensors) -> None:
        """Write a tensor file of the task and remember its hash and size.

        Raises:
            InputError: If the folder holds another run by now, or none.
        """
        if not current_processes().is_main:
            return
        self.context.require_same_run()
        path = self.context.run.task(self.task).tensors(name)
        sha256 = tensor_files.write(path, tensors, self.context.identity(name, self.task))
        relative = self.context.run.relative(path)
        self.outputs[relative] = sha256
        self.bytes[relative] = path.stat().st_size

    def finish(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Write the record, last of all, and return it; errors as in ``write``."""
        context = self.context
        name = run_state.RECORDS[self.step]
        record: dict[str, Any] = {
            "schema": run_state.schema_of(self.step),
            "task": self.task,
            "fingerprint": context.fingerprint(self.task, self.step),
            "inputs": self.files.inputs,
            "outputs": self.outputs,
            "bytes": self.bytes,
            "seconds": round(time.monotonic() - self.started, 3),
            "peak_memory_bytes": peak_memory(context.device),
            "device": device_name(context.device),
            "threads": torch.get_num_threads(),
            "processes": current_processes().size,
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "compute": context.settings.compute.on(context.device.type).model_dump(mode="json"),
            "notes": context.settings.notes,
            **more,
        }
        if current_processes().is_main:
            context.require_same_run()
            write_record(context.run.task(self.task).record(name), record)
            context.tracking.update()
        context.record_changed(self.task)
        return record


def device_name(device: torch.device) -> str:
    """Return what a device is called: ``cpu``, or the name of the accelerator."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def peak_memory(device: torch.device) -> int | None:
    """Return the most memory used so far, in bytes: of the device, or resident in the process.

    ``None`` where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource  # not at the top: it does not exist on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def versions() -> dict[str, str]:
    """Return the versions that may matter to the numbers, and that of this program."""
    return {
        "ness": own_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
