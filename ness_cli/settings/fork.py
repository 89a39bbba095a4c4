"""Settings of a fork: which steps every setting decides, and whether a fork may change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ness_cli.errors import SettingsError
from ness_cli.settings.components import METHODS
from ness_cli.settings.identity import differing_keys
from ness_cli.settings.resolve import Resolved, resolve_again


@dataclass(frozen=True)
class ForkSettings:
    """Settings of a fork.

    Attributes:
        resolved: All of them.
        changed: Keys that decide numbers and differ from those of the run: the consolidation of
            the last task shared is made anew where there are any.
    """

    resolved: Resolved
    changed: tuple[str, ...]


def resolve_fork(
    stored: Mapping[str, Any], record: Mapping[str, Any], overrides: Sequence[str], *, after: int
) -> ForkSettings:
    """Return the settings of a fork after a task.

    A fork ends as a run that was prepared with its settings would. So a setting may change only if
    no step that is shared depends on it: most decide the training of task 1; some options of
    methods are read from its consolidation on, which decides the training of task 2.

    Args:
        stored: The content of the run's ``settings.yaml``.
        record: The content of its ``run.json``.
        overrides: ``key=value`` strings.
        after: The last task whose training is shared.

    Raises:
        SettingsError: If a setting decides a step that would be shared, naming the key, or settings
            cannot be used.
    """
    resolved = resolve_again(stored, record, overrides, None)
    changed = differing_keys(record["identity"], resolved.settings.identity())
    least = min(map(trainings_before, changed), default=after)
    if least < after:
        keys = [key for key in changed if trainings_before(key) == least]
        decides = "decides" if len(keys) == 1 else "decide"
        raise SettingsError(
            f"{', '.join(keys)}: {decides} the training of task {least + 1}, which a fork after"
            f" task {after} shares",
            f"fork it with --after {least}"
            if least
            else "leave it out, or prepare another run: ness prepare --out RUN2 KEY=VALUE",
        )
    return ForkSettings(resolved, tuple(changed))


def trainings_before(key: str) -> int:
    """Return how many tasks are trained before anything depends on a setting.

    Args:
        key: As it is typed: ``methods.ness.eps1``.
    """
    section, _, rest = key.partition(".")
    name, _, option = rest.partition(".")
    if section != "methods" or not METHODS.has(name):
        return 0
    model = METHODS.model(name, setting="method.name")
    return int(model.marked(option.partition(".")[0], "read_after_training") or 0)
