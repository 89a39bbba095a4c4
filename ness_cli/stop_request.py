"""A polite request to stop, made by a signal and honoured at the next step boundary."""

from __future__ import annotations

from ness_cli.errors import StoppedError


class StopRequest:
    """Holds whether somebody asked the process to stop, and how.

    Args:
        way_on: Command that goes on with everything that was asked for, as with ``ness run``; empty
            where that is the command of the single step that stops.
    """

    def __init__(self, way_on: str = "") -> None:
        self.reason = ""
        self.way_on = way_on

    def request(self, reason: str) -> None:
        """Ask for a stop; ``reason`` is shown to the user: ``SIGTERM``."""
        self.reason = reason

    def check(self, where: str, resume: str) -> None:
        """Stop here if somebody asked.

        Args:
            where: What is complete on disk, for the message.
            resume: The command that goes on with the step, or the work, that stops here.

        Raises:
            StoppedError: If a stop was requested.
        """
        if self.reason:
            remedy = f"to go on, run: {self.way_on or resume}"
            raise StoppedError(f"stopped by {self.reason}; {where}", remedy)
