"""When a task in training is saved, and when it stops: decided at step boundaries.

Several processes that make a step together must do either at the same boundary. They ask each other
after a number of steps that they agreed on the time before, about a second's worth: asking means
waiting for the slowest process and its device, which at every step would cost more than the step.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ness_cli.processes import current_processes
from ness_cli.stop_request import StopRequest

SECONDS_BETWEEN = 1.0
"""About how often processes ask each other; a signal waits that long."""


class StepBoundary:
    """Decides after every step whether to save and whether to stop, for all processes alike.

    Args:
        save_seconds: Seconds between checkpoints; 0 saves after every step.
        stop: Asked whether somebody wants this process to stop.
        clock: Seconds from anywhere; only the first process goes by it.
    """

    def __init__(
        self, save_seconds: float, stop: StopRequest, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.save_seconds = save_seconds
        self.stop = stop
        self.clock = clock
        self.last_save = self.last_exchange = clock()
        self.num_steps = self.steps_left = 1

    def after_step(self) -> tuple[bool, bool]:
        """Return whether to save and whether to stop now; a stop saves first."""
        processes = current_processes()
        if processes.size == 1:
            return self._decided(self._is_due(), bool(self.stop.reason))
        self.steps_left -= 1
        if self.steps_left:
            return False, False
        due, is_stopping, num_steps = processes.largest(
            int(self._is_due() and processes.is_main),
            int(bool(self.stop.reason)),
            self._next_num_steps() if processes.is_main else 0,
        )
        self.last_exchange = self.clock()
        self.num_steps = self.steps_left = num_steps
        if is_stopping and not self.stop.reason:
            self.stop.request("another process")
        return self._decided(bool(due), bool(is_stopping))

    def _is_due(self) -> bool:
        return self.clock() - self.last_save >= self.save_seconds

    def _next_num_steps(self) -> int:
        """Return after how many steps to ask again, at most twice as many as before."""
        seconds_per_step = (self.clock() - self.last_exchange) / self.num_steps
        most = min(SECONDS_BETWEEN, self.save_seconds)
        fitting = int(most / seconds_per_step) if seconds_per_step > 0 else 2 * self.num_steps
        return max(1, min(fitting, 2 * self.num_steps))

    def _decided(self, is_due: bool, is_stopping: bool) -> tuple[bool, bool]:
        if is_due or is_stopping:
            self.last_save = self.clock()
        return is_due or is_stopping, is_stopping
