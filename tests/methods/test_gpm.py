from __future__ import annotations

import pytest
from factory import add_task, make_method, make_settings, make_steps, make_task

from ness_cli.errors import SettingsError


def test_a_step_is_orthogonal_to_the_memory():
    settings = make_settings(method={"name": "gpm"}, train={"momentum": 0.9, "weight_decay": 0.1})
    method = make_method(settings)
    for task_number in (1, 2):
        add_task(method, task_number)
        task = make_task(task_number)
        method.begin_task(task)
        before = {n: v.matrix().clone() for n, v in method.layers.items()}
        for _ in make_steps(method, task, 5):
            pass
        if task_number == 2:
            for name, view in method.layers.items():
                change = view.matrix() - before[name]
                assert change.norm() > 0
                assert (change @ method._memory[name]).norm() <= 1e-5 * change.norm()
        method.end_task(task)
        method.consolidate(task, lambda _: None)


def test_a_list_of_another_length_than_the_layers_is_refused():
    settings = make_settings(method={"name": "gpm"}, methods={"gpm": {"threshold": [0.9] * 3}})
    method = make_method(settings)
    add_task(method, 1)
    with pytest.raises(SettingsError, match="3 values for 2 layers"):
        method.consolidate(make_task(1), lambda _: None)
