from __future__ import annotations

from types import SimpleNamespace

from ness_cli.results.summary import Group, distinct_names


def _group(method="ness", **identity):
    about = {"preset": "p", "method": method, "identity": {"seed": 1, **identity}}
    return Group((SimpleNamespace(about=about),))


def test_groups_of_one_name_say_in_which_settings_they_differ():
    found = [
        _group(**{"train.lr": 0.1, "train.epochs": 3}),
        _group(**{"train.lr": 0.2, "train.epochs": 3}),
        _group("gpm", **{"train.lr": 0.3, "train.epochs": 4}),
    ]
    assert distinct_names(found) == ["p, ness (lr=0.1)", "p, ness (lr=0.2)", "p, gpm"]


def test_a_setting_that_only_one_group_has_is_named_too():
    found = [_group(**{"methods.ness.gamma": 2.0}), _group()]
    assert distinct_names(found) == ["p, ness (gamma=2.0)", "p, ness (gamma=None)"]
