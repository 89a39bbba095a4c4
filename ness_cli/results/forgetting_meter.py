"""The forgetting meter: how far updates moved what layers put out on earlier inputs.

Of every update and layer rho, the root-mean-square relative change. Through the whole network the
changes of layers and of updates add up, at most as their sum and at least, if they are unrelated,
about as the root of their sum of squares; both are shown. Needs no data and no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ness_cli.run_state import RunState

Over = Literal["task", "pool"]


@dataclass(frozen=True)
class LayerChange:
    """What one update did to one layer.

    Attributes:
        rho: Root-mean-square relative change of its outputs on earlier inputs, a fraction.
        limit: The most that was allowed; ``None`` without a budget.
        is_pooled: Whether groups of a convolution were taken to see each other's inputs.
    """

    rho: float
    limit: float | None = None
    is_pooled: bool = False

    @property
    def share(self) -> float | None:
        """The share of the limit that was used, a fraction; ``None`` without one, or of nothing."""
        return self.rho / self.limit if self.limit else None


@dataclass(frozen=True)
class Update:
    """What the update of a task did to every layer.

    Attributes:
        task: The task.
        layers: By name, in the order of the network.
    """

    task: int
    layers: Mapping[str, LayerChange]

    @classmethod
    def of(cls, task_number: int, layers: Mapping[str, Mapping[str, Any]], over: Over) -> Update:
        """Return the update that a record tells of.

        Args:
            task_number: Its task.
            layers: By name ``rho`` (``None`` if infinite), with a budget ``budget``; ``pooled``.
            over: Whose outputs a budget is for: of one earlier task, or of all together.
        """
        tasks = task_number - 1 if over == "task" else 1
        found = {}
        for name, own in layers.items():
            rho = math.inf if own["rho"] is None else float(own["rho"])
            limit = own["budget"] / math.sqrt(tasks) if "budget" in own else None
            found[name] = LayerChange(rho, limit, bool(own.get("pooled", False)))
        return cls(task_number, found)

    @property
    def largest(self) -> tuple[str, float]:
        """The layer that it moved most, and by how much."""
        name = max(self.layers, key=lambda layer: self.layers[layer].rho)
        return name, self.layers[name].rho

    @property
    def share(self) -> float | None:
        """The largest share of its limit that a layer used; ``None`` without a budget."""
        shares = [own.share for own in self.layers.values() if own.share is not None]
        return max(shares, default=None)


@dataclass(frozen=True)
class ForgettingMeter:
    """What is known of the updates of a run.

    Attributes:
        updates: In the order of their tasks.
        missing: Tasks that are trained and of whose updates nothing is known.
        over: Whose outputs a budget is for.
    """

    updates: tuple[Update, ...] = ()
    missing: tuple[int, ...] = ()
    over: Over = "task"

    @classmethod
    def of(cls, state: RunState, identity: Mapping[str, Any]) -> ForgettingMeter:
        """Return what the records of a run tell.

        Args:
            state: Its steps.
            identity: Its settings, flat.
        """
        over: Over = identity.get(f"methods.{identity.get('method.name')}.budget_over", "task")
        updates, missing = [], []
        for number in range(2, state.num_tasks + 1):
            steps = [state.of(number, step) for step in ("train", "build")]
            if not steps[0].is_done:
                continue
            told = [s.record["output_change"] for s in steps if s.record.get("output_change")]
            if told:
                updates.append(Update.of(number, told[0], over))
            else:
                missing.append(number)
        return cls(tuple(updates), tuple(missing), over)

    def with_measured(self, updates: Iterable[Update]) -> ForgettingMeter:
        """Return the meter with these updates in place of, or beside, those it knows."""
        known = {update.task: update for update in (*self.updates, *updates)}
        missing = tuple(task for task in self.missing if task not in known)
        return replace(self, updates=tuple(known[t] for t in sorted(known)), missing=missing)

    def until(self, task_number: int) -> ForgettingMeter:
        """Return the meter as it stood after a task."""
        return replace(self, updates=tuple(u for u in self.updates if u.task <= task_number))

    @property
    def sums(self) -> dict[str, float]:
        """By layer, the sum of rho over the updates."""
        return {name: math.fsum(rhos) for name, rhos in self._by_layer().items()}

    @property
    def roots(self) -> dict[str, float]:
        """By layer, the root of the sum of rho^2 over the updates."""
        return {name: math.hypot(*rhos) for name, rhos in self._by_layer().items()}

    @property
    def largest(self) -> Update:
        """The update that moved a layer most."""
        return max(self.updates, key=lambda update: update.largest[1])

    @property
    def share(self) -> float | None:
        """The largest share of its limit that any update used; ``None`` without a budget."""
        return max((u.share for u in self.updates if u.share is not None), default=None)

    @property
    def is_pooled(self) -> bool:
        """Whether groups of some convolution were taken to see each other's inputs."""
        return any(own.is_pooled for u in self.updates for own in u.layers.values())

    def _by_layer(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for update in self.updates:
            for name, own in update.layers.items():
                found.setdefault(name, []).append(own.rho)
        return found

    def document(self) -> dict[str, Any] | None:
        """Return everything as plain values, fractions; ``None`` if nothing is known.

        Infinity is ``None`` too.
        """
        if not self.updates:
            return None
        return {
            "updates": [
                {
                    "task": update.task,
                    "layer": update.largest[0],
                    "rho": _plain(update.largest[1]),
                    "budget_used": _plain(update.share),
                    "layers": {name: _layer(own) for name, own in update.layers.items()},
                }
                for update in self.updates
            ],
            "sums": {name: _plain(value) for name, value in self.sums.items()},
            "root_sums_of_squares": {name: _plain(value) for name, value in self.roots.items()},
            "budget_used": _plain(self.share),
            "missing": list(self.missing),
        }


def _layer(own: LayerChange) -> dict[str, Any]:
    return {
        "rho": _plain(own.rho),
        "limit": own.limit,
        "budget_used": _plain(own.share),
        "pooled": own.is_pooled,
    }


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value
