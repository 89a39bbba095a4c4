"""What a folder holds, but for what differs from time to time: by this two ends are compared."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ness_cli.hashing import sha256_of_file
from ness_cli.run_dir import RunDir
from ness_cli.run_state import read_state

UNDECIDED = ("log.txt", "events.jsonl", "progress.json", "progress.png")
"""Files that tell what happened; nothing reads them to decide anything."""
LEASE = ".lock-"
_TIMES = {
    *("seconds", "train_seconds", "epoch_seconds", "finished", "created", "generated"),
    *("peak_memory_bytes", "seal"),
}
_MEASURED = re.compile(r"\b([0-9]+ h [0-9]+ m|[0-9]+ m [0-9]+ s|[0-9.]+ (s|[MG]B))\b")  # files: kB
_CHANCE = re.compile(r"[.][A-Za-z0-9_]+[.]tmp")  # of names that are not final


def without_chance(path: Path | str) -> str:
    """Return a path in which names that are not final are the same every time."""
    return _CHANCE.sub(".tmp", str(path))


def without_times(printed: str) -> str:
    """Return what a command printed without what it measured.

    That is seconds, also in a column called ``s``, and sizes of processes and disks.
    """
    lines, has_column = [], False
    for line in printed.splitlines():
        words = _MEASURED.sub("some", line).split()
        has_column = bool(words) and (words[-1] == "s" or has_column)
        lines.append(words[:-1] if has_column else words)
    return "\n".join(" ".join(words) for words in lines)


def comparable(here: Path) -> dict[str, str]:
    """Return a hash for everything below a folder that must be the same after a fault.

    Of a file these are its content and who may read it, of a folder that it is there.
    """
    return {
        str(path.relative_to(here)): _digest(path)
        for path in sorted(here.rglob("*"))
        if _is_compared(path)
    }


def _is_compared(path: Path) -> bool:
    # What a search was told stands in the runs, and what it chose in a preset.
    is_chatter = path.name in UNDECIDED or path.suffix in (".log", ".exit", ".journal")
    return not is_chatter and LEASE not in path.name and not path.name.endswith(".tmp")


def _digest(path: Path) -> str:
    mode = path.lstat().st_mode
    content = _timeless(path) if stat.S_ISREG(mode) else b""
    return f"{mode:o} {hashlib.sha256(content).hexdigest()}"


def _timeless(path: Path) -> bytes:
    """Return what is in a file without its times; all of it, if it does not read back."""
    data = path.read_bytes()
    try:
        if path.suffix == ".json":
            value = json.loads(data)
            return json.dumps([_without_times(value), _seal_of(value)], sort_keys=True).encode()
        if path.suffix == ".jsonl":
            lines = [_without_times(json.loads(line)) for line in data.splitlines()]
            return json.dumps(lines, sort_keys=True).encode()
    except ValueError:
        pass
    return data


def _seal_of(value: object) -> str:
    """Return whether a document has the hash of itself, which its times are part of."""
    if not isinstance(value, dict) or "seal" not in value:
        return "none"
    rest = {key: own for key, own in value.items() if key != "seal"}
    digest = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    return "right" if digest == value["seal"] else "wrong"


def _without_times(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_times(own) for key, own in value.items() if key not in _TIMES}
    return [_without_times(own) for own in value] if isinstance(value, list) else value


def state_of(here: Path) -> str:
    """Return a hash of everything that what comes next may depend on.

    Of a lease that is whether somebody holds it, of a file that decides nothing whether its last
    line is complete.
    """
    digest = hashlib.sha256()
    for path in sorted(here.rglob("*"), key=without_chance):
        name = without_chance(path)
        if LEASE in path.name:
            name = re.sub(
                r"\d+$", f" {path.stat().st_size > 0} {path.stat().st_mtime_ns > 0}", name
            )
        digest.update(f"{name} {path.stat().st_mode}\n".encode())
        if path.is_file() and LEASE not in path.name:
            chatter = path.name in UNDECIDED or path.suffix == ".log"
            digest.update(path.read_bytes()[-1:] if chatter else _timeless(path))
    return digest.hexdigest()


def broken_promises(here: Path) -> Iterator[str]:
    """Yield what is wrong with runs: steps that are said to be done and whose files are others."""
    for path in sorted(here.rglob("run.json")):
        if ".tmp" in str(path):
            continue
        run = RunDir(path.parent)
        for step in read_state(run).steps:
            removed = step.record.get("removed", [])
            for name, sha256 in step.record.get("outputs", {}).items():
                file = run.path / name
                if step.is_done and name not in removed and sha256_of_file(file) != sha256:
                    yield f"{file} is not what the record of its step says"
