"""Pictures of experiments, runs that differ in their seed only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ness_cli.errors import DamagedError
from ness_cli.plots.acc_against_bwt import AccAgainstBwt, Result
from ness_cli.plots.accuracy_matrix import accuracy_matrix
from ness_cli.plots.accuracy_over_tasks import accuracy_over_tasks
from ness_cli.plots.change_per_task import change_per_task
from ness_cli.plots.heat_map import HeatMap
from ness_cli.plots.picture import Picture
from ness_cli.plots.task_lines import TaskLine
from ness_cli.results import run_pictures
from ness_cli.results.published import published_of
from ness_cli.results.read_run import RunResult
from ness_cli.results.summary import Group, Spread

MOST_LINES = 12
"""Experiments in one picture; more could not be told apart."""
MOST_DRAWN = 12
"""Experiments that have pictures of their own: each takes a second or two."""
_NAME_WIDTH = 20  # of a task beside its row


@dataclass(frozen=True)
class NamedPicture:
    """A picture and the name of its file.

    Attributes:
        name: Letters, digits and hyphens.
        caption: What it shows, in a sentence.
        picture: What to draw.
    """

    name: str
    caption: str
    picture: Picture


def side_by_side(groups: Sequence[Group], names: Sequence[str]) -> list[NamedPicture]:
    """Return the pictures of several experiments, of the best of them if they are very many.

    Args:
        groups: The experiments.
        names: What they are called.
    """
    named = list(zip(groups, names, strict=True))
    shown = _best(named)
    of = f", the {len(shown)} of {len(named)} experiments with the best ACC" * (shown != named)
    published = _published(shown)
    stars = "; stars: published" if published else ""
    seen = [_line(g, name, run_pictures.means_over_tasks) for g, name in shown]
    changes = [_line(g, name, lambda run: run.task_incremental.changes) for g, name in shown]
    are_spread = any(len(group.furthest) > 1 for group, _ in shown)
    band = "; bands: one standard deviation over seeds" * are_spread
    bars = "; bars: one standard deviation over seeds; hollow: a single seed" * are_spread
    return [
        NamedPicture(
            "accuracy-over-tasks",
            f"Mean test accuracy over the tasks learned so far, after every task{band}{of}.",
            accuracy_over_tasks(seen),
        ),
        NamedPicture(
            "change-per-task",
            f"Test accuracy at the end less that right after learning{band}{of}.",
            change_per_task(changes),
        ),
        NamedPicture(
            "acc-against-bwt",
            f"Accuracy against backward transfer: up and to the right is better{bars}{stars}{of}.",
            AccAgainstBwt([*(_result(g, name) for g, name in shown), *published]),
        ),
    ]


def mean_matrix(group: Group, whose: str) -> HeatMap:
    """Return the picture of an experiment's accuracy matrix, the mean over its seeds."""
    runs, last = group.furthest, group.tasks_done
    rows = [_mean_row([run.task_incremental.rows[t] for run in runs]) for t in range(last)]
    names = [task.label(_NAME_WIDTH) for task in runs[0].tasks[:last]]
    # With an order of its own every seed has other classes in a task.
    is_one_order = len({run.tasks for run in runs}) == 1
    return accuracy_matrix(whose, rows, names if any(names) and is_one_order else ())


@dataclass(frozen=True)
class OfExperiment:
    """Pictures of one experiment.

    Attributes:
        pictures: Those that could be read.
        problems: A line for each that could not.
    """

    pictures: tuple[NamedPicture, ...]
    problems: tuple[str, ...]


def of_experiment(group: Group, slug: str, whose: str) -> OfExperiment:
    """Return pictures of training and spectra, of the first seed that counts.

    Args:
        group: The experiment.
        slug: Ends the names of the files.
        whose: What is written into the pictures; nothing if empty.
    """
    run, found, problems = group.furthest[0], [], []
    seed = f"seed {run.record['seed']}"
    wanted: list[tuple[str, str, Callable[[RunResult, str], Picture | None]]] = [
        ("training", f"Loss and validation accuracy of every epoch, {seed}.", run_pictures.curves),
        (
            "spectra",
            f"Singular values of layer inputs and thresholds, {seed}.",
            run_pictures.spectra,
        ),
    ]
    for name, caption, make in wanted:
        try:
            picture = make(run, whose)
        except DamagedError as error:
            problems.append(f"{name} of {run.path} left out: {error.what}; {error.remedy}")
            continue
        if picture is not None:
            found.append(NamedPicture(f"{name}-{slug}", caption, picture))
    return OfExperiment(tuple(found), tuple(problems))


def all_pictures(groups: Sequence[Group], names: Sequence[str]) -> list[NamedPicture]:
    """Return what can be drawn of experiments; what does not read back is left out."""
    if not groups:
        return []
    found = side_by_side(groups, names)
    for group, slug in list(zip(groups, slugs(names), strict=True))[:MOST_DRAWN]:
        whose = run_pictures.run_name(group.furthest[0])
        found += [*heat_maps(group, slug), *of_experiment(group, slug, whose).pictures]
    return found


def heat_maps(group: Group, slug: str) -> list[NamedPicture]:
    """Return the accuracy matrix of an experiment and the room in its layers, as pictures."""
    run = group.furthest[0]
    count = len(group.furthest)
    whose = f"{group.name}, mean over {count} seeds" if count > 1 else run_pictures.run_name(run)
    maps = {"accuracy-matrix": mean_matrix(group, whose)}
    room = run_pictures.room_left(run, run_pictures.run_name(run))
    maps |= {"room": room} if room else {}
    return [NamedPicture(f"{name}-{slug}", each.title, each) for name, each in maps.items()]


def slugs(names: Iterable[str]) -> list[str]:
    """Return parts of file names for experiments, all different whatever they are called."""
    found: list[str] = []
    for number, name in enumerate(names, start=1):
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or str(number)
        found.append(f"{slug}-{number}" if slug in found else slug)
    return found


def _best(named: list[tuple[Group, str]]) -> list[tuple[Group, str]]:
    accs = [(group.spread("acc").mean, index) for index, (group, _) in enumerate(named)]
    best = sorted(accs, key=lambda item: -1.0 if item[0] is None else item[0], reverse=True)
    chosen = {index for _, index in best[:MOST_LINES]}
    return [pair for index, pair in enumerate(named) if index in chosen]


def _line(
    group: Group, name: str, values: Callable[[RunResult], Sequence[float | None]]
) -> TaskLine:
    columns = zip(*(values(run) for run in group.furthest), strict=True)
    spreads = [Spread.of(column) for column in columns]
    return TaskLine(name, [each.mean for each in spreads], [each.std for each in spreads])


def _result(group: Group, name: str) -> Result:
    acc, bwt = group.spread("acc"), group.spread("bwt")
    return Result(name, acc.mean, bwt.mean, acc.std, bwt.std)


def _published(shown: Sequence[tuple[Group, str]]) -> list[Result]:
    """Return what was published for the experiments shown, each once."""
    found = {}
    for group, _ in shown:
        own = published_of(group)
        if own is not None and not own.not_comparable:
            name = f"{group.preset}, published"
            found[name] = Result(name, own.acc, own.bwt, own.acc_std, own.bwt_std, True)
    return list(found.values())


def _mean_row(rows: Sequence[Sequence[float | None] | None]) -> list[float | None] | None:
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or not known:
        return None
    return [Spread.of(column).mean for column in zip(*known, strict=True)]
