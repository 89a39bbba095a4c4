"""``ness methods``: beside the options, what each method keeps, needs and costs; no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from ness_cli.cli.components import Components
from ness_cli.results.number_formats import human_bytes
from ness_cli.results.table import plain_table, titled
from ness_cli.settings.components import METHODS
from ness_cli.settings.methods.base import MethodOptions
from ness_cli.words import counted, fixed

NETS = {"mlp": "MLP", "alexnet": "AlexNet"}
"""Networks that steps were measured on, as tables call them."""


@cache
def measured_steps() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return what ``benchmarks/steps.py --family`` found, by network and method.

    A row has ``ms_per_step``, ``ratio`` (times finetuning's) with ``ratio_quartiles``, and
    ``memory_bytes``, kept besides the model after ten tasks, at most; ``null`` for all data.
    """
    found: dict[str, Any] = json.loads(
        Path(__file__).with_name("step_costs.json").read_text(encoding="utf-8")
    )
    return found


@dataclass(frozen=True)
class Facts:
    """What is to be known of a method before its accuracy; of its default options.

    Attributes:
        keeps: What later tasks need of earlier ones besides the model, in words.
        needs_task: Whether layers compute differently for every task.
        passes: How often a step of task 2 passes its batch forth and back.
        measured: What was measured, by network; a network that it was not measured on is missing.
    """

    keeps: str
    needs_task: bool
    passes: int
    measured: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, name: str) -> Facts:
        """Return the facts of a method."""
        options = METHODS.model(name, setting="ness methods")()
        assert isinstance(options, MethodOptions)
        measured = {net: rows[name] for net, rows in measured_steps().items() if name in rows}
        return cls(options.keeps(), options.needs_task(), options.passes(), measured)

    @property
    def memory(self) -> str:
        """Bytes kept on AlexNet after ten tasks, at most."""
        row = self.measured.get("alexnet")
        if row is None:
            return "-"
        return "all data" if row["memory_bytes"] is None else human_bytes(row["memory_bytes"])

    def step(self, net: str) -> str:
        """Return a step's time over finetune's on a network."""
        row = self.measured.get(net)
        return "-" if row is None else fixed(row["ratio"])

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "keeps": self.keeps,
            "needs_task": self.needs_task,
            "passes": self.passes,
            "measured": {net: dict(row) for net, row in self.measured.items()},
        }

    def lines(self) -> list[str]:
        """Return sentences, for the page of one method."""
        steps = ", ".join(f"{self.step(net)} ({NETS[net]})" for net in self.measured)
        return [
            f"keeps: {self.keeps}",
            f"layers {'need' if self.needs_task else 'do not need'} to know the task;"
            f" a step passes its batch {counted(self.passes, 'time')}",
            *([f"a step takes {steps} times finetune's"] if steps else []),
            *([f"memory on AlexNet, ten tasks, at most: {self.memory}"] if steps else []),
        ]


class Methods(Components):
    """The methods, with their facts."""

    def facts(self, name: str) -> list[str]:
        """Return the facts of a method as sentences."""
        return Facts.of(name).lines()

    def document(self, names: Iterable[str]) -> dict[str, Any]:
        """Return methods by name: options as of any component, and facts."""
        names = list(names)
        found = super().document(names)
        for name in names:
            found["methods"][name] |= Facts.of(name).as_json()
        return found

    def overview(self) -> Iterator[RenderableType]:
        """Yield what each method is, and what it keeps, needs and costs."""
        names = self.choice.names()
        table = plain_table("method", "what it is", left=2)
        table.columns[0].no_wrap = True
        for name in names:
            table.add_row(name, self.summary(name))
        yield titled("methods", table, " ")
        table = plain_table("method", "keeps", "task", "memory", "passes", *NETS.values(), left=3)
        table.columns[0].no_wrap = True
        for name in names:
            own = Facts.of(name)
            needs = "yes" if own.needs_task else "no"
            steps = [own.step(net) for net in NETS]
            table.add_row(name, own.keeps, needs, own.memory, str(own.passes), *steps)
        yield titled(
            "what they keep, need and cost, with default options",
            table,
            "keeps: what later tasks need besides the model; task: layers must know it",
            "memory: its bytes on AlexNet after ten tasks, at most",
            "passes: of a batch, forth and back, in a step of task 2",
            f"{', '.join(NETS.values())}: time of a step over finetune's, measured side by side",
            "options: ness methods NAME",
        )
