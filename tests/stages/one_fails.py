"""The second of the processes that make a step fails, in a process that imports this."""

from __future__ import annotations

import os
import signal

from ness_cli.engine.fit import Fit
from ness_cli.errors import NumericalError


def fail_in_the_second(*, is_killed: bool) -> None:
    """Have the second process fail, or be killed, at its first step boundary."""

    def fail(fit: Fit) -> None:
        if is_killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise NumericalError("no number", "look at it")

    if os.environ["RANK"] == "1":
        Fit._step_boundary = fail
