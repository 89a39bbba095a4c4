"""A polite request to stop, made by a signal and honoured at the next step boundary."""

from __future__ import annotations

from ness_cli.errors import StoppedError


class StopRequest:
    """Holds whether somebody asked the process to stop, and how."""

    def __init__(self) -> None:
        self.reason = ""

    def request(self, reason: str) -> None:
        """Ask for a stop; ``reason`` is shown to the user: ``SIGTERM``."""
        self.reason = reason

    def check(self, where: str, resume: str) -> None:
        """Stop here if somebody asked.

        Args:
            where: What is complete on disk, for the message.
            resume: The command that goes on from here.

        Raises:
            StoppedError: If a stop was requested.
        """
        if self.reason:
            raise StoppedError(f"stopped by {self.reason}; {where}", f"to go on, run: {resume}")
