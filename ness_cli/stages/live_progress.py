"""Progress that is also written into the run, for whoever watches it from another process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from ness_cli.console import Advance, Progress
from ness_cli.files import remove_file, write_json
from ness_cli.process_identity import this_process
from ness_cli.processes import current_processes
from ness_cli.run_dir import RunDir
from ness_cli.stages.step_record import device_name, peak_memory

_SECONDS = 1.0  # between two writes


class LiveProgress(Progress):
    """Passes progress on, and writes it down about once a second.

    Args:
        progress: Receives what is going on.
        run: The run that is worked on.
        device: Where it computes.
    """

    def __init__(self, progress: Progress, run: RunDir, device: torch.device) -> None:
        self._progress, self._run, self._device = progress, run, device

    @contextlib.contextmanager
    def track(self, description: str, total: int, done: int = 0) -> Iterator[Advance]:
        """Follow a piece of work."""
        started, first, last = time.monotonic(), None, 0.0
        with self._progress.track(description, total, done) as advance:

            def advance_and_write(n: int = 1, info: str = "") -> None:
                nonlocal done, started, first, last
                advance(n, info)
                done += n
                now = time.monotonic()
                if first is None:
                    # What a resumed step had done before says nothing about the speed now.
                    first, started = done, now
                if now - last >= _SECONDS:
                    last = now
                    fresh = done - first
                    speed = (now - started) / fresh if fresh else None
                    self._write(
                        {"what": description, "done": done, "total": total, "info": info}, speed
                    )

            try:
                yield advance_and_write
            finally:
                if current_processes().is_main:
                    with contextlib.suppress(OSError):  # as in writing
                        remove_file(self._run.live)

    def note(self, text: str) -> None:
        """Say something in passing."""
        self._progress.note(text)

    def _write(self, where: dict[str, Any], seconds_per_unit: float | None) -> None:
        # Not into a run that was deleted under this process; and nobody has to watch.
        if not current_processes().is_main or not self._run.run.exists():
            return
        document = {
            "schema": "ness.progress/1",
            **where,
            "seconds_per_unit": seconds_per_unit,
            "process": asdict(this_process()),
            "device": device_name(self._device),
            **_memory(self._device),
            "updated": time.time(),
        }
        with contextlib.suppress(OSError):
            write_json(self._run.live, document, durable=False)


def _memory(device: torch.device) -> dict[str, int | None]:
    """Return bytes: the most that were used so far, and what a GPU has and how much is free."""
    if device.type != "cuda":
        return {"peak_memory_bytes": peak_memory(device)}
    free, total = torch.cuda.mem_get_info(device)
    return {
        "peak_memory_bytes": peak_memory(device),
        "device_bytes": total,
        "device_free_bytes": free,
    }
