"""What of a machine matters to ``ness``: looked at, nothing is changed."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from ness_cli.data.store import prepared
from ness_cli.errors import DamagedError, InputError, NessError, SystemRefusedError
from ness_cli.files import read_json, write_json
from ness_cli.lease import Lease
from ness_cli.results.findings import Finding
from ness_cli.results.number_formats import human_bytes
from ness_cli.stages.device import torch_device
from ness_cli.stages.prepared_data import PreparedStream, prepared_streams, raise_refusal
from ness_cli.stages.resources import available_memory
from ness_cli.stages.step_record import device_name
from ness_cli.vision_libraries import import_torchvision
from ness_cli.words import counted
from ness_cli.workplace import Workplace

_PACKAGE = "ness-cli"
_LITTLE_DISK, _NO_DISK = 5 * 10**9, 10**8  # bytes
_LITTLE_MEMORY = 2 * 10**9  # bytes
_REPRODUCIBLE = (":4096:8", ":16:8")  # what CUDA's library takes for the same bits every time


def examine(workplace: Workplace, runs: Path) -> Iterator[Finding]:
    """Yield what was found, as it is found.

    Args:
        workplace: Cache, device and threads that commands would have.
        runs: Folder in which runs would be made.

    Raises:
        SettingsError: If there is no such kind of device.
    """
    yield from _software()
    yield from _machine(workplace)
    yield from (_disk("disk of runs", runs), _disk("disk of the cache", workplace.cache))
    yield _files(runs)
    yield from _cache(workplace.cache)


# -- software ------------------------------------------------------------------------------------


def _software() -> Iterator[Finding]:
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding.good("environment", f"ness {importlib.metadata.version(_PACKAGE)}, {system}")
    missing = [name for name in _requirements("") if _version(name) is None]
    if missing:
        remedy = f"pip install {' '.join(missing)}"
        yield Finding.problem("packages", f"not installed: {', '.join(missing)}", remedy)
    try:
        version = import_torchvision().__version__
        yield Finding.good("torch", f"torch {torch.__version__}, torchvision {version}")
    except NessError as error:
        yield Finding.problem("torch", error.what, error.remedy)
    extras = importlib.metadata.metadata(_PACKAGE).get_all("Provides-Extra") or []
    wanted = {extra: _requirements(extra) for extra in extras if extra != "dev"}
    absent = [e for e, names in wanted.items() if any(_version(name) is None for name in names)]
    there = ", ".join(extra for extra in wanted if extra not in absent) or "none"
    more = f"; for more: pip install '{_PACKAGE}[{','.join(absent)}]'" if absent else ""
    yield Finding.good("extras", there + more)


def _requirements(extra: str) -> list[str]:
    """Return the packages that ness needs always, or for an extra."""
    found = []
    for line in importlib.metadata.requires(_PACKAGE) or []:
        name = re.match(r"[\w.-]+", line)
        own = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name and (own.group(1) if own else "") == extra:
            found.append(name.group())
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


# -- machine -------------------------------------------------------------------------------------


def _machine(workplace: Workplace) -> Iterator[Finding]:
    try:
        device = torch_device(workplace)
    except SystemRefusedError as error:
        yield Finding.problem("device", error.what, error.remedy)
        return
    yield _device(device)
    yield _determinism(device)
    yield _threads(torch.get_num_threads(), usable_cpus())
    memory = available_memory()
    if memory is not None:
        found = f"{human_bytes(memory)} available"
        yield (
            Finding.note("memory", found, "end other programs, before training on large images")
            if memory < _LITTLE_MEMORY
            else Finding.good("memory", found)
        )


def _device(device: torch.device) -> Finding:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        room = f"{human_bytes(free)} of {human_bytes(total)} free, CUDA {torch.version.cuda}"
        return Finding.good("device", f"{device_name(device)}, {room}")
    if device.type == "cpu" and shutil.which("nvidia-smi") and torch.version.cuda is None:
        return Finding.note(
            "device",
            f"cpu; there is an NVIDIA driver, and torch {torch.__version__} has no CUDA",
            "install a torch with CUDA: https://pytorch.org/get-started",
        )
    return Finding.good("device", device_name(device))


def _determinism(device: torch.device) -> Finding:
    setting = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    if device.type == "cuda" and setting is not None and setting not in _REPRODUCIBLE:
        return Finding.problem(
            "determinism",
            f"CUBLAS_WORKSPACE_CONFIG={setting}: matrix products would not repeat their bits",
            "unset CUBLAS_WORKSPACE_CONFIG; ness sets it",
        )
    return Finding.good(
        "determinism", "strict by default: the same bits on the same device and threads"
    )


def _threads(threads: int, usable: int) -> Finding:
    found = f"{counted(threads, 'thread')} on {counted(usable, 'core')}"
    if threads <= usable:
        return Finding.good("threads", found)
    remedy = f"--threads {usable}: threads that share a core wait for each other"
    return Finding.note("threads", found, remedy)


def usable_cpus(group: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return how many cores this process may use: its mask, and the quota of its container.

    Args:
        group: File with the quota.
    """
    mask = os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1)
    try:
        quota, period = group.read_text().split()
        # Without a quota the word is "max".
        limit = max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return len(mask)
    return min(len(mask), limit)


# -- disk ----------------------------------------------------------------------------------------


def _disk(name: str, folder: Path) -> Finding:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(there, os.W_OK):
        return Finding.problem(name, f"{folder} cannot be written", f"chmod u+w {there}")
    free = shutil.disk_usage(there).free
    found = f"{human_bytes(free)} free for {folder}"
    if free < _NO_DISK:
        return Finding.problem(name, found, "free some space; ness cache ls, ness prune RUN")
    if free < _LITTLE_DISK:
        return Finding.note(
            name, found, "ness prepare --dry-run shows what a run needs; storage.keep=latest"
        )
    return Finding.good(name, found)


def _files(folder: Path) -> Finding:
    """Write, rename and hold something where runs are made, as they do."""
    try:
        with _temporary_folder(folder) as place, Lease(place / ".lock").held():
            write_json(place / "a.json", {"written": True})
            read_json(place / "a.json", remedy="")
    except (OSError, NessError) as error:
        return Finding.problem(
            "files", f"{folder}: {_first_line(error)}", "make runs on another disk: --out"
        )
    return Finding.good("files", f"written, renamed and held by one process in {folder}")


@contextlib.contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Make a folder for a while; removing that of ``tempfile`` never ends where it is refused."""
    place = Path(tempfile.mkdtemp(dir=folder, prefix=".ness-doctor-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _cache(cache: Path) -> Iterator[Finding]:
    """Yield how prepared images are; every file is hashed."""
    streams = prepared_streams(cache)
    total = human_bytes(sum(each.bytes for each in streams))
    yield Finding.good("cache", f"{counted(len(streams), 'stream')}, {total} in {cache}")
    for each in streams:
        try:
            problem = _stream_problem(cache, each)
        except SystemRefusedError as error:
            yield Finding.problem("cache", error.what, error.remedy)
            continue
        if problem:
            yield Finding.note(
                "cache", problem, f"delete {each.folder}; a run that needs it prepares it again"
            )


def _stream_problem(cache: Path, stream: PreparedStream) -> str:
    """Return what is wrong with prepared images, empty if nothing is.

    Raises:
        SystemRefusedError: If the system does not let them be read, which may pass.
    """
    raise_refusal([stream])
    if not stream.is_complete:
        return f"{stream.folder} is incomplete ({human_bytes(stream.bytes)})"
    try:
        key = read_json(stream.folder / "stream.json", remedy="")["key"]
        prepared(cache, str(key))
    except (DamagedError, InputError) as error:
        return error.what
    return ""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
