"""One thread and deterministic algorithms everywhere; no test may touch the user's cache."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator

import hypothesis
import pytest
import torch
import typer.main
import typer.testing
from forked import Processes

from ness_cli.stages.progress_picture import ProgressPicture

_AFTER = ProgressPicture.after

# The same examples every time, and no verdict on how long one takes on a busy machine.
hypothesis.settings.register_profile("ness", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ness")


def pytest_collection_finish() -> None:
    # What is loaded by now stays: it need not be searched for garbage again and again.
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread_for_shared_fixtures() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_deterministic_thread() -> None:
    # For every test anew: a command run in this process sets what its run asks for.
    torch.set_num_threads(1)
    torch.set_deterministic_debug_mode("error")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # One for the whole session: preparing the digits once is enough.
        patch.setenv("NESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("COLUMNS", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_command_line() -> Iterator[None]:
    # Every command of a CliRunner would have it built anew from all functions and their types.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_progress_pictures() -> Iterator[None]:
    # A second for every run, which only their own tests need.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressPicture, "after", lambda picture, task_number: None)
        yield


@pytest.fixture(scope="session")
def processes(_own_cache: None) -> Iterator[Processes]:
    """Start commands and programs without the seconds that each would need to load torch."""
    with Processes() as started:
        yield started


@pytest.fixture
def progress_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs draw their progress, as they do outside of tests."""
    monkeypatch.setattr(ProgressPicture, "after", _AFTER)


@pytest.fixture(autouse=True)
def _same_random_numbers_every_time() -> None:
    # That of the CPU alone: for devices that may come later torch notes the whole stack.
    torch.default_generator.manual_seed(0)
