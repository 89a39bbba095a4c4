"""What a format is: writing a folder, and reading it back to see what it computes."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import torch

from ness_cli.errors import SettingsError, SystemRefusedError
from ness_cli.export.plain_network import is_hooked
from ness_cli.export.subject import Subject


class ExportFormat(ABC):
    """A format.

    Args:
        one_rank: Give every layer the same rank, padded with zeros.

    Attributes:
        libraries: What writing and checking need besides torch.
        holds_all_tasks: Whether the task is an input of what it holds.
        is_of_its_task: Whether it holds a task as it was when it had just been learned.
        has_ranks: Whether layers have ranks in it.
        imports: The line that imports what makes ``images``, if anything does.

    Raises:
        SettingsError: If one rank is asked for where there are none.
    """

    libraries: ClassVar[tuple[str, ...]] = ()
    holds_all_tasks: ClassVar[bool] = False
    is_of_its_task: ClassVar[bool] = False
    has_ranks: ClassVar[bool] = False
    imports: ClassVar[str] = "import torch\n"

    def __init__(self, *, one_rank: bool = False) -> None:
        if one_rank and not self.has_ranks:
            raise SettingsError(f"--one-rank: --to {self.name} has no ranks", "leave it out")
        self.one_rank = one_rank

    @property
    def name(self) -> str:
        """As ``--to`` has it: the name of its file."""
        return type(self).__module__.rpartition(".")[2]

    def require_libraries(self) -> None:
        """Refuse to begin without the libraries.

        Raises:
            SystemRefusedError: Naming one that is not installed.
        """
        for library in self.libraries:
            if importlib.util.find_spec(library) is None:
                raise SystemRefusedError(
                    f"--to {self.name}: {library} is not installed",
                    "pip install 'ness-cli[export]'",
                )

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> None:
        """Write the model into an empty folder.

        Raises:
            SettingsError: If the format cannot hold it; names what.
        """

    @abstractmethod
    def logits(self, subject: Subject, folder: Path, task_number: int) -> torch.Tensor:
        """Return what the written files make of the subject's images of a task.

        Returns:
            Logits, ``[n, num_classes]``.
        """

    @abstractmethod
    def usage(self, subject: Subject) -> str:
        """Return how a program makes ``logits`` of ``images``: Markdown for the model card."""

    def needs(self, subject: Subject) -> tuple[str, ...]:
        """Return what must be installed where the files are used, by the names that pip has."""
        return ("torch",)

    def images_of_pixels(self, subject: Subject) -> str:
        """Return the Python lines that make ``images`` of the array ``pixels``."""
        return "images = torch.from_numpy(pixels)"

    def refuse_hooks(self, subject: Subject) -> None:
        """Refuse a network that computes more than its weights say.

        Raises:
            SettingsError: Naming what does.
        """
        with subject.view(subject.task) as model:
            if not is_hooked(model):
                return
        has_prompts = getattr(model.backbone, "prompts", None) is not None
        what = "prompts (net.prompts)" if has_prompts else f"what {subject.method} adds"
        raise SettingsError(
            f"--to {self.name} holds weights, and {what} compute between layers",
            "export it with --to pt2 or --to onnx",
        )
