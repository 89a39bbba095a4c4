"""What every metric is: its name, formula and source, for tables, ``--explain`` and the docs.

A[t][i] is the accuracy on the test images of task i after task t was learned, percent, with the
task known unless a metric says otherwise; T is the last task that was evaluated. Means over i leave
out tasks whose images are gone. A metric is empty where a number that it needs is not known.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ness_cli.results.table import Table, plain_table, titled


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        name: Its key in JSON documents, its column in CSV.
        title: What it is called.
        unit: Of its values.
        better: 1 where more is better, -1 where less is, 0 where it depends.
        formula: How it is computed, and of what.
        source: Who defined it.
    """

    name: str
    title: str
    unit: str
    better: int
    formula: str
    source: str

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


_GEM = "Lopez-Paz and Ranzato 2017"
_OURS = "defined here"
OF_RUNS = (
    Metric("acc", "ACC, average accuracy", "%", 1, "mean over i <= T of A[T][i]", f"{_GEM}, eq. 2"),
    Metric(
        *("bwt", "BWT, backward transfer", "points", 1),
        *("mean over i < T of A[T][i] - A[i][i]", f"{_GEM}, eq. 3"),
    ),
    Metric(
        *("forgetting", "forgetting", "points", -1),
        "mean over i < T of (max over i <= t < T of A[t][i]) - A[T][i]",
        "Chaudhry et al. 2018 (RWalk)",
    ),
    Metric(
        *("forgetting_diagonal", "diagonal forgetting", "points", -1),
        "mean over i < T of A[i][i] - A[T][i], which is -BWT: what else goes by forgetting",
        f"{_GEM}, eq. 3, sign turned",
    ),
    Metric(
        *("learning_accuracy", "learning accuracy", "%", 1),
        *("mean over i <= T of A[i][i]", "Riemer et al. 2019 (MER)"),
    ),
    Metric(
        *("fwt", "FWT, forward transfer", "points", 1),
        "mean over 1 < i <= T of A[i-1][i] - 100 / (classes of i): above guessing, in place of a"
        " random network; where all tasks share one head",
        f"{_GEM}, eq. 4",
    ),
    Metric(
        *("intransigence", "intransigence", "points", -1),
        "mean over i <= T of J[i][i] - A[i][i], J of method joint on the same tasks and network:"
        " its run of the same seed, or the mean of its runs",
        "Chaudhry et al. 2018 (RWalk)",
    ),
    Metric(
        *("class_acc", "class-incremental ACC", "%", 1),
        "mean over i <= T of C[T][i], as A with the task not known: the largest logit of all heads",
        "van de Ven and Tolias 2019",
    ),
    Metric(
        *("step_seconds", "time of a step", "s", -1),
        "median over tasks t > 1 of (seconds in the training loop of t) / (its steps)",
        _OURS,
    ),
    Metric(
        *("step_ratio", "cost of a step", "times", -1),
        "step_seconds over the median of finetune's runs with the same images, network, batch size"
        " and machine",
        _OURS,
    ),
    Metric(
        *("model_bytes", "size of the model", "bytes", -1),
        "network, heads and statistics of normalisation after task T",
        _OURS,
    ),
    Metric(
        *("memory_bytes", "bytes remembered", "bytes", -1),
        "besides the model, what later steps read: files of the method, and stored images",
        _OURS,
    ),
    Metric(
        *("image_bytes", "bytes of images remembered", "bytes", -1),
        "of memory_bytes, pixels of training images, a byte per value",
        _OURS,
    ),
    Metric(
        *("task_numbers", "numbers of single tasks", "numbers", -1),
        "heads, scales and shifts that are not shared, masks and other files of one task, summed"
        " over tasks",
        _OURS,
    ),
    Metric(
        *("trained_numbers", "trainable parameters", "numbers", 0),
        "parameters that training task T may change, its own head among them; directions that are"
        " closed to it are not subtracted",
        _OURS,
    ),
    Metric(
        *("room", "room left", "%", 1),
        "min over layers of open directions / width of the layer's input, after task T; a direction"
        " that is only slowed counts as open",
        _OURS,
    ),
    Metric(
        *("tasks_left", "tasks left", "tasks", 1),
        "min over layers of open directions / mean closed per task, over the last three tasks;"
        " empty where none was closed",
        _OURS,
    ),
)
OF_ORDERS = (
    Metric(
        *("mopd", "MOPD", "points", -1),
        "max over tasks of OPD, the largest minus the smallest A[T][i] of the task over orders of"
        " the tasks; over seeds of an order the mean counts",
        "Yoon et al. 2020 (APD)",
    ),
    Metric(
        *("aopd", "AOPD", "points", -1),
        *("mean over tasks of OPD", "Yoon et al. 2020 (APD)"),
    ),
)
METRICS = (*OF_RUNS, *OF_ORDERS)
NAMES = tuple(metric.name for metric in OF_RUNS)
BETTER = {metric.name: metric.better for metric in METRICS}


def metrics_table() -> Table:
    """Return what every metric is, for ``--explain``."""
    table = plain_table("metric", "what it is", "formula", left=3)
    for metric in METRICS:
        source = "" if metric.source == _OURS else f" ({metric.source})"
        table.add_row(metric.name, f"{metric.title}, {metric.unit}", metric.formula + source)
    table.columns[0].no_wrap = True
    notes = [
        "A[t][i]: accuracy on test images of task i after task t, %; T: the last task evaluated",
        "±: sample standard deviation over seeds, n - 1",
    ]
    return titled("Metrics", table, *notes)
