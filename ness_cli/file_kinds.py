"""What lies where a file of ours should be: reading a pipe would never end."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

from ness_cli.errors import InputError


def require_file(path: Path, remedy: str) -> None:
    """Refuse a folder, a pipe or a device in the place of a file that we wrote.

    Args:
        path: The place; that nothing is there is for its reader to say.
        remedy: What writes the file, for the error message.

    Raises:
        InputError: If something else is there, which is not ours to remove.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno != errno.ELOOP:
            return
        what = "a link to itself"
    else:
        if stat.S_ISREG(mode):
            return
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
    raise InputError(f"{path} is no file: {what} is in its place", f"remove it, then {remedy}")
