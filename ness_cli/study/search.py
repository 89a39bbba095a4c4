"""Trials of settings, drawn by Optuna and remembered in a journal in the folder of the study.

The search is asked and told; it runs nothing itself. Draws depend on its seed, the number of the
trial and what was told before, so that a search that was interrupted goes on as it would have.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ness_cli.errors import DamagedError, InputError, SystemRefusedError
from ness_cli.file_kinds import require_file
from ness_cli.settings.study import RangeSettings, SearchSettings
from ness_cli.settings.study_names import short
from ness_cli.settings.yaml_files import typed
from ness_cli.study.journal import Journal

if TYPE_CHECKING:
    import optuna

JOURNAL = "search.journal"
_NAME = "search"
_AGAIN = "type the command again: what its runs have learned is not trained again"
_SEEDS_APART = 100_003  # of two searches, so that they share no draws
_DIGITS = 4
_WHY, _SETTINGS, _MEANT = "why", "settings", "meant"
# What Optuna makes of lines that are not those that it wrote.
_UNREADABLE = (
    *(ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, RuntimeError),
)
_STATES = {"RUNNING": "running", "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class TrialResult:
    """A trial, as far as it has come.

    Attributes:
        number: Its number, from 0.
        settings: ``key=value`` strings.
        state: ``running``, ``complete``, ``pruned`` or ``failed``.
        scores: Mean validation accuracy over the tasks seen, percent, after every task.
        why: Why it failed.
    """

    number: int
    settings: tuple[str, ...]
    state: str
    scores: Mapping[int, float]
    why: str = ""

    @property
    def name(self) -> str:
        """Its folder: settings that are tried twice are run once."""
        return ",".join(map(short, self.settings))

    @property
    def score(self) -> float | None:
        """The accuracy after its last task."""
        return self.scores[max(self.scores)] if self.scores else None


class Search:
    """A search for the settings with the highest validation accuracy.

    Args:
        folder: Where its journal lies; of a study that this process holds.
        settings: Space, numbers and seed.

    Raises:
        SystemRefusedError: If Optuna is not installed.
        InputError: If the folder has the journal of another search.
        DamagedError: If the journal does not read back.
    """

    def __init__(self, folder: Path, settings: SearchSettings) -> None:
        self._settings = settings
        require_file(folder / JOURNAL, _AGAIN)
        _cut_unfinished_line(folder / JOURNAL)
        self._optuna = _import_optuna()
        with _reading(folder / JOURNAL):
            self._study = self._optuna.create_study(
                study_name=_NAME,
                storage=_storage(self._optuna, folder / JOURNAL),
                direction="maximize",
                pruner=self._optuna.pruners.MedianPruner(n_startup_trials=settings.random),
                load_if_exists=True,
            )
            _results(self._study)
        # More trials may be asked for; what they are drawn from and judged by stays.
        meant = settings.model_dump(mode="json", exclude={"trials"})
        if self._study.user_attrs.setdefault(_MEANT, meant) != meant:
            raise InputError(
                f"{folder}: the search there has another space, number of tasks or seed",
                "choose another --out",
            )
        self._study.set_user_attr(_MEANT, meant)

    def draw(self) -> TrialResult:
        """Return a new trial; one that a process drew in part when it ended counts for nothing.

        To go on with that would draw the rest of its settings as if they were the first ones.
        """
        number = len(_drawn(self._study))
        for each in self._study.get_trials(deepcopy=False):
            if _SETTINGS not in each.user_attrs and not each.state.is_finished():
                self._study.tell(each.number, state=self._optuna.trial.TrialState.FAIL)
        with _quiet():
            self._study.sampler = self._optuna.samplers.TPESampler(
                seed=self._settings.seed * _SEEDS_APART + number,
                n_startup_trials=self._settings.random,
                constant_liar=True,  # trials under way count as poor: parallel ones differ
            )
            trial = self._study.ask()
        own = [_suggested(trial, key, values) for key, values in self._settings.space.items()]
        trial.set_user_attr(_SETTINGS, own)
        return self.results()[number]

    def results(self) -> list[TrialResult]:
        """Return all trials by number."""
        return _results(self._study)

    def report(self, number: int, task: int, score: float) -> None:
        """Tell the accuracy of a trial under way after a task."""
        self._trial(number).report(score, task)

    def is_behind(self, number: int) -> bool:
        """Return whether a trial lags behind the median of the others after the same task."""
        return self._trial(number).should_prune()

    def complete(self, number: int, score: float) -> None:
        """End a trial with the accuracy that it is judged by."""
        self._tell(number, "COMPLETE", score)

    def prune(self, number: int) -> None:
        """End a trial that lags behind."""
        self._tell(number, "PRUNED")

    def fail(self, number: int, why: str) -> None:
        """End a trial that cannot be judged."""
        self._trial(number).set_user_attr(_WHY, why)
        self._tell(number, "FAIL")

    def _tell(self, number: int, state: str, score: float | None = None) -> None:
        own = _drawn(self._study)[number].number
        self._study.tell(own, score, state=self._optuna.trial.TrialState[state])

    def _trial(self, number: int) -> optuna.trial.Trial:
        """Return a trial under way, that an earlier process may have drawn."""
        frozen = _drawn(self._study)[number]
        trial: optuna.trial.Trial = self._optuna.trial.Trial(self._study, frozen._trial_id)
        return trial


def results_in(folder: Path) -> list[TrialResult]:
    """Return the trials of a search by number, without writing anything; none where none was begun.

    Args:
        folder: Where its journal lies.

    Raises:
        SystemRefusedError: If Optuna is not installed.
        DamagedError: If the journal does not read back.
    """
    require_file(folder / JOURNAL, _AGAIN)
    if not (folder / JOURNAL).exists():
        return []
    optuna = _import_optuna()
    with _reading(folder / JOURNAL):
        storage = _storage(optuna, folder / JOURNAL)
        if not storage.get_all_studies():
            return []
        return _results(optuna.load_study(study_name=_NAME, storage=storage))


def _drawn(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials whose settings are all there."""
    return [t for t in study.get_trials(deepcopy=False) if _SETTINGS in t.user_attrs]


def _results(study: optuna.Study) -> list[TrialResult]:
    return [
        TrialResult(
            number,
            tuple(each.user_attrs[_SETTINGS]),
            _STATES.get(each.state.name, "failed"),
            dict(each.intermediate_values),
            each.user_attrs.get(_WHY, ""),
        )
        for number, each in enumerate(_drawn(study))
    ]


def best_of(results: Sequence[TrialResult]) -> TrialResult | None:
    """Return the complete trial with the highest score, the first of several."""
    complete = [each for each in results if each.state == "complete" and each.score is not None]
    return max(complete, key=lambda each: each.score or 0.0, default=None)


def _suggested(trial: optuna.trial.Trial, key: str, values: list[Any] | RangeSettings) -> str:
    """Return a setting of a trial, as it is typed; numbers are rounded to a few digits."""
    found: Any
    if isinstance(values, list):
        # By their place: what stands in the list may be lists itself.
        found = values[trial.suggest_categorical(key, list(range(len(values))))]
    elif isinstance(values.low, int) and isinstance(values.high, int):
        found = trial.suggest_int(key, values.low, values.high, log=values.log)
    else:
        number = trial.suggest_float(key, values.low, values.high, log=values.log)
        found = float(f"{number:.{_DIGITS}g}")
    return f"{key}={typed(found)}"


def _storage(optuna: Any, journal: Path) -> Any:
    return optuna.storages.JournalStorage(Journal(journal))


def _cut_unfinished_line(journal: Path) -> None:
    """Take the beginning of a line off a journal whose writer was killed, or had a full disk.

    What is appended to it would be one line with it, and the journal damaged.
    """
    data = journal.read_bytes() if journal.exists() else b""
    if data and not data.endswith(b"\n"):
        os.truncate(journal, data.rfind(b"\n") + 1)


@contextmanager
def _reading(journal: Path) -> Iterator[None]:
    """Let Optuna say nothing, and a journal that it cannot read be called damaged."""
    with _quiet():
        try:
            yield
        except _UNREADABLE as error:
            raise DamagedError(
                f"{journal} is damaged: {error!r:.100}", f"put it back; or remove it, then {_AGAIN}"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Optuna say nothing, neither of its progress nor of what is new in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _import_optuna() -> Any:
    try:
        with _quiet():
            import optuna
    except ImportError as error:
        raise SystemRefusedError(
            "ness tune needs Optuna, which is not installed", "pip install 'ness-cli[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
