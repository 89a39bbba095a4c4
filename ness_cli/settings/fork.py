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
            task 1 is made anew where there are any.
    """

    resolved: Resolved
    changed: tuple[str, ...]


def resolve_fork(
    stored: Mapping[str, Any], record: Mapping[str, Any], overrides: Sequence[str], *, after: int
) -> ForkSettings:
    """Return the settings of a fork after a task.

    A fork ends as a run that was prepared with its settings would. So a setting may change only if
    no step that is shared depends on it: most decide the training of task 1, some options of
    methods are read from its consolidation on.

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
    early = [key for key in changed if not is_read_after_training(key)]
    if early:
        raise SettingsError(
            f"{', '.join(early)}: {_decides(early)} the training of task 1, which a fork shares",
            "leave it out, or prepare another run: ness prepare --out RUN2 KEY=VALUE",
        )
    if changed and after > 1:
        raise SettingsError(
            f"{', '.join(changed)}: {_decides(changed)} the consolidation of task 1, which a fork"
            f" after task {after} shares",
            "fork it with --after 1",
        )
    return ForkSettings(resolved, tuple(changed))


def is_read_after_training(key: str) -> bool:
    """Return whether nothing that the training of task 1 writes depends on a setting.

    Args:
        key: As it is typed: ``methods.ness.eps1``.
    """
    section, _, rest = key.partition(".")
    name, _, option = rest.partition(".")
    if section != "methods" or not METHODS.has(name):
        return False
    model = METHODS.model(name, setting="method.name")
    return bool(model.marked(option.partition(".")[0], "read_after_training"))


def _decides(keys: Sequence[str]) -> str:
    return "decides" if len(keys) == 1 else "decide"
