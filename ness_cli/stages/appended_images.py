"""The prepared images of a run that was extended: made again where they are gone and needed."""

from __future__ import annotations

from pathlib import Path

from ness_cli.console import Progress
from ness_cli.data.store import prepare as prepare_data
from ness_cli.data.store import prepared as prepared_data
from ness_cli.data.stream_plan import content_hashes
from ness_cli.errors import DamagedError, InputError, MissingFilesError
from ness_cli.extensions import Extension
from ness_cli.run_dir import RunDir
from ness_cli.run_state import STEPS, read_state
from ness_cli.settings.model import Settings
from ness_cli.settings.stored import with_appended


def are_needed(run: RunDir, settings: Settings, last_task: int) -> bool:
    """Return whether images of the tasks up to one are needed to go on with a run.

    Those of tasks that are done are not, once others have been appended, unless the method opens
    them again: the accuracies of later tasks go without them then.
    """
    state = read_state(run)
    options = settings.options
    if any(options.uses_past_data(step) for step in ("train", "build")):
        return True
    tasks = range(1, last_task + 1)
    are_done = all(state.of(task, step).is_done for task in tasks for step in STEPS)
    return last_task == state.num_tasks or not are_done


def prepare_appended(
    run: RunDir,
    extension: Extension,
    settings: Settings,
    cache: Path,
    progress: Progress,
    *,
    verify_data: bool,
) -> None:
    """Make sure that the images of an extension are in the cache, where they are needed.

    Args:
        run: The run folder.
        extension: One of its extensions.
        settings: The settings that the run was prepared with.
        cache: Folder of prepared data.
        progress: Told what is going on.
        verify_data: Compare the files that they came from although they are prepared.

    Raises:
        InputError: If they are needed, and the files they came from are missing or others.
        DamagedError: If its settings do not read back.
    """
    own = with_appended(settings, extension.settings, run.run).stream
    key, known = extension.stream["key"], extension.stream["contents"]
    try:
        is_there = prepared_data(cache, key) is not None
        gone = "they are not in the cache"
    except DamagedError as error:
        is_there, gone = False, error.what
    if is_there and not verify_data:
        return
    which = f"images of {run.path}, {extension.which}"
    try:
        contents = content_hashes(own.datasets(), progress, download=not is_there)
    except MissingFilesError as error:
        if not verify_data and not are_needed(run, settings, extension.last_task):
            progress.note(f"{which}: {gone}, and {error.what}; the run goes on without them")
            return
        raise
    if contents != known:
        raise InputError(
            f"{which} were prepared from other files than those at hand now",
            "put the old files back where they were",
        )
    if not is_there:
        prepare_data(own, cache, progress, contents=contents, key=key)
