"""Finished runs to follow, and stand-ins for the packages that follow them."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace

from ness_cli.run_dir import RunDir

EPOCHS = 2


def made_up(folder: Path, num_done: int = 1, *, num_tasks: int = 2, epochs: int = EPOCHS) -> RunDir:
    """Write the records of a run whose first tasks are done, and the next is in training.

    Args:
        folder: Where to write them.
        num_done: Tasks that are done.
        num_tasks: All tasks.
        epochs: Epochs of the task in training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = {"fingerprint": "f" * 64, "num_tasks": num_tasks, "identity": {"seed": 1}}
    record |= {"method": "gpm", "preset": "p", "seed": 1, "stream_key": "k", "notes": []}
    (folder / "run.json").write_text(json.dumps(record))
    for t in range(1, min(num_done + 1, num_tasks) + 1):
        task = folder / f"task-{t:02d}"
        task.mkdir(exist_ok=True)
        entries = [
            {"phase": "all", "epoch": e, "lr": 0.1, "train_loss": t + 1 / e, "seconds": float(e)}
            for e in range(1, (EPOCHS if t <= num_done else epochs) + 1)
        ]
        (task / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in entries))
        if t <= num_done:
            done = {"fingerprint": "f" * 64, "finished": "2026-01-01T00:00:10+00:00"}
            layers = [{"layer": f"fc{rank}", "rank": rank, "d": 10} for rank in (1, 4)]
            (task / "train.json").write_text(json.dumps(done))
            (task / "subspace.json").write_text(json.dumps({**done, "layers": layers}))
            row = [90.0 - 10 * (t - i) for i in range(1, t + 1)]
            (task / "accuracy.json").write_text(json.dumps({**done, "task_incremental": row}))
    return RunDir(folder)


class Server:
    """What a service has stored, and goes on storing after a process is killed."""

    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[int, dict[str, float]]]] = {}
        self.finished: list[str] = []
        self.is_down = False

    def wandb(self) -> ModuleType:
        """Return a package of W&B's shape, as a new process imports it."""
        server, module = self, ModuleType("wandb")

        class Run:
            def __init__(self, key: str) -> None:
                self.key, self.resumed = key, key in server.runs
                self.defined: list[str] = []
                self.logged = server.runs.setdefault(key, [])

            @property
            def step(self) -> int:
                return self.logged[-1][0] + 1 if self.logged else 0

            @property
            def _next_step(self) -> int:
                return self.step

            def define_metric(self, name: str, step_metric: str) -> None:
                self.defined.append(f"{name} over {step_metric}")

            def log(self, values: dict[str, float], step: int) -> None:
                if server.is_down:
                    raise ConnectionError("the server is down\nand more")
                assert step >= self.step, "W&B drops steps that go back"
                self.logged.append((step, values))

        started = []

        def init(*, project, config, resume, name, id=None, embed=True):
            print("a service is talkative")
            assert resume == "allow"
            assert config
            started.append(Run(f"{project}/{id or name}"))
            return started[-1]

        module.init = init
        module.finish = lambda: server.finished.append(started.pop().key)
        return module

    def mlflow(self) -> ModuleType:
        """Return a package of MLflow's shape."""
        server, module = self, ModuleType("mlflow")

        class MlflowClient:
            def get_experiment_by_name(self, name: str) -> None:
                return None

            def create_experiment(self, name: str) -> str:
                return f"experiment {name}"

            def create_run(self, experiment: str, run_name: str) -> SimpleNamespace:
                key = f"{experiment}/{run_name}"
                server.runs[key] = []
                return SimpleNamespace(info=SimpleNamespace(run_id=key))

            def update_run(self, run_id: str, status: str) -> None:
                assert run_id in server.runs

            def get_run(self, run_id: str) -> SimpleNamespace:
                latest = {k: v for _, values in server.runs[run_id] for k, v in values.items()}
                return SimpleNamespace(data=SimpleNamespace(metrics=latest))

            def log_batch(self, run_id: str, metrics=(), params=()) -> None:
                assert len(params) <= 100
                assert all(len(param.value) <= 500 for param in params)
                if metrics:
                    values = {metric.key: metric.value for metric in metrics}
                    server.runs[run_id].append((metrics[0].step, values))

            def set_terminated(self, run_id: str) -> None:
                server.finished.append(run_id)

        module.MlflowClient = MlflowClient
        module.entities = SimpleNamespace(
            Metric=lambda key, value, timestamp, step: SimpleNamespace(
                key=key, value=value, timestamp=timestamp, step=step
            ),
            Param=lambda key, value: SimpleNamespace(key=key, value=value),
        )
        return module
