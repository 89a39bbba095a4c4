"""What a method leaves with every task, and what it takes in again."""

from __future__ import annotations

from typing import ClassVar

from ness_cli.methods.files import (
    Files,
    LayerSpectrum,
    MethodFile,
    Recomposition,
    RelativeChange,
    Tensors,
    UpdateBound,
)


class MemoryHooks:
    """Nothing is left and nothing is needed.

    Attributes:
        files: What the method leaves with every task, besides the model.
        recomposition: How its models follow from one another and from files; ``None`` if they
            must be stored.
        spectrum_file: Which file has the spectra of layer inputs, if one does.
    """

    files: ClassVar[tuple[MethodFile, ...]] = ()
    recomposition: ClassVar[Recomposition | None] = None
    spectrum_file: ClassVar[str | None] = None

    # -- files -------------------------------------------------------------------------------

    def outputs(self, step: str) -> dict[str, Tensors]:
        """Return those of its files that ``step``, train or build, has made; tensors by name."""
        return {}

    def reads(self, step: str) -> tuple[str, ...]:
        """Return which of its files ``step`` needs.

        For ``train`` and ``build`` they are those of the task before, for ``evaluate`` of the same;
        for ``measure`` what ``output_changes`` needs, of the task before. Base: the files that say
        so themselves.
        """
        return tuple(file.name for file in self.files if step in file.read_by)

    def load_memory(self, files: Files) -> None:
        """Take in the files that ``reads`` names."""

    def reads_of_every_task(self, step: str) -> tuple[str, ...]:
        """Return which files that belong to single tasks ``step`` needs, of all tasks so far.

        For ``train`` and ``build`` up to the task before, for ``evaluate`` up to the same;
        ``build`` gets what training left with the same task, too.
        """
        return ()

    def reads_of_training(self) -> tuple[str, ...]:
        """Return which files that the training of a task left its consolidation needs."""
        return ()

    def load_task_memory(self, task_number: int, files: Files) -> None:
        """Take in what ``reads_of_every_task`` or ``reads_of_training`` names of one task."""

    def file_sizes(self) -> dict[str, int]:
        """Return the most bytes that each of its files can have, for the layers of its model.

        A file without an entry is taken for an empty one: the disk is not checked for it.
        """
        return {}

    def spectra(self, tensors: Tensors) -> dict[str, LayerSpectrum]:
        """Return the spectra in a ``spectrum_file``, by layer."""
        return {}

    def bounds(self, before: Files, own: Files) -> dict[str, UpdateBound]:
        """Return what bounds the update of a task, by layer; empty if nothing is claimed.

        Args:
            before: The files of the task before that ``recomposition`` reads.
            own: Those of the task itself.
        """
        return {}

    def output_changes(self, before: Tensors, after: Tensors) -> dict[str, RelativeChange]:
        """Return how far an update moved outputs on earlier inputs, by layer; empty if not known.

        Asked after ``load_memory`` with what ``reads("measure")`` names.

        Args:
            before: The matrix of every layer before the update, ``[out, d]``.
            after: The same after it.
        """
        return {}

    # -- checkpoints -------------------------------------------------------------------------

    def state_tensors(self) -> Tensors:
        """Return what changes in training besides the trained parameters, for checkpoints."""
        return {}

    def load_state_tensors(self, tensors: Tensors) -> None:
        """Take in what ``state_tensors`` returned."""
