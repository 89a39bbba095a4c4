"""MLflow; where its server or its files are, ``MLFLOW_TRACKING_URI`` says."""

from __future__ import annotations

from typing import Any

from ness_cli.results.events import Event
from ness_cli.trackers.base_service import ServiceTracker

_NUMBER = "event"  # a metric whose latest value says how far the run is
_LONGEST = 500  # characters of a parameter
_MOST = 100  # parameters at a time


class Mlflow(ServiceTracker):
    """A run of MLflow in the experiment that is named like the project."""

    package = "mlflow"
    install = "mlflow"

    def open(self, module: Any, memory: dict[str, Any]) -> int | None:
        """Begin a run, or go on with it."""
        self._entities = module.entities
        self._client = module.MlflowClient()
        if "run_id" not in memory:
            memory["run_id"] = self._new_run()
        self._run_id = str(memory["run_id"])
        self._client.update_run(self._run_id, status="RUNNING")
        latest = self._client.get_run(self._run_id).data.metrics.get(_NUMBER)
        return 0 if latest is None else int(latest) + 1

    def append(self, number: int, event: Event) -> None:
        """Log the values of an event at once."""
        at = int(1000 * event.time)
        values = {**event.values, _NUMBER: number}
        metrics = [
            self._entities.Metric(name, float(value), at, event.step)
            for name, value in values.items()
        ]
        self._client.log_batch(self._run_id, metrics=metrics)

    def finish(self) -> None:
        """Mark the run as finished, for as long as no other process goes on with it."""
        self._client.set_terminated(self._run_id)

    def _new_run(self) -> str:
        experiment = self._client.get_experiment_by_name(self.run.project)
        found = (
            self._client.create_experiment(self.run.project)
            if experiment is None
            else experiment.experiment_id
        )
        run_id = self._client.create_run(found, run_name=self.run.name).info.run_id
        params = [
            self._entities.Param(key, str(value)[:_LONGEST])
            for key, value in self.run.settings.items()
        ]
        for start in range(0, len(params), _MOST):
            self._client.log_batch(run_id, params=params[start : start + _MOST])
        return str(run_id)
