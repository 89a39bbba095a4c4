"""Training settings that a method needs in place of those of a preset."""

from __future__ import annotations

import pytest

from ness_cli.cli.targets import show_notes, targets
from ness_cli.console import Console
from ness_cli.settings.methods import gpm
from ness_cli.settings.resolve import resolve, resolve_again


@pytest.fixture(autouse=True)
def _gpm_needs_adam(monkeypatch):
    """GPM stands in for a method that needs Adam."""
    wanted = {"optimizer": "adam", "lr": 1e-3, "sam": {"tasks": "none"}}
    monkeypatch.setattr(gpm.Options, "adjustments", lambda self, train: wanted)
    monkeypatch.setattr(gpm.Options, "problems", lambda self, train: ())


def _file(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_preset_for_another_method_gives_way():
    resolved = resolve("digits", ["method.name=gpm"])
    train = resolved.settings.train
    assert (train.optimizer, train.lr) == ("adam", 1e-3)
    assert resolved.origins["train.lr"] == resolved.origins["train.optimizer"] == "method gpm"
    lr = resolve("digits").settings.train.lr
    words = f"the default has sgd; the preset digits has {lr}"
    assert resolved.notes == (f"gpm trains with train.optimizer=adam train.lr=0.001 ({words})",)


def test_what_is_typed_stays():
    resolved = resolve("digits", ["method.name=gpm", "train.lr=0.3"])
    assert (resolved.settings.train.optimizer, resolved.settings.train.lr) == ("adam", 0.3)
    assert resolved.origins["train.lr"] == "command line"
    assert "train.lr" not in resolved.notes[0]


@pytest.mark.parametrize("name", ["adam-nscl", "halrp", "eblora"])
def test_who_types_the_optimiser_that_a_method_needs_gets_its_rate(name):
    options = ["train.optimizer=adamw", "net.hidden=[8]"]
    resolved = resolve("digits", [f"method.name={name}", *options])
    assert (resolved.settings.train.optimizer, resolved.settings.train.lr) == ("adamw", 1e-3)
    assert resolved.origins["train.lr"] == f"method {name}"
    assert f"{name} trains with train.lr=0.001" in resolved.notes[0]
    own = resolve("digits", [f"method.name={name}", *options, "train.lr=0.02"])
    assert own.settings.train.lr == 0.02


def test_who_types_another_optimiser_keeps_the_rate_of_the_preset():
    resolved = resolve("digits", ["method.name=adam-nscl", "train.optimizer=sgd"])
    assert resolved.settings.train.lr == resolve("digits").settings.train.lr
    assert resolved.notes == ()


def test_a_method_that_needs_sgd_gets_its_rate_in_place_of_that_of_adam(monkeypatch):
    monkeypatch.undo()
    preset = "cifar100-resnet18-adam-nscl"
    typed = resolve(preset, ["method.name=gpm", "train.optimizer=sgd"]).settings.train
    assert typed == resolve(preset, ["method.name=gpm"]).settings.train
    assert (typed.optimizer, typed.lr) == ("sgd", 0.01)
    assert resolve("digits", ["method.name=gpm"]).notes == ()


def test_a_file_of_ones_own_stays_and_what_it_extends_gives_way(tmp_path):
    own = _file(tmp_path, "extends: digits\ntrain: {optimizer: sgd}\n")
    resolved = resolve(own, ["method.name=gpm"])
    assert resolved.settings.train.optimizer == "sgd"
    assert resolved.settings.train.lr == resolve("digits").settings.train.lr
    assert not resolved.settings.train.is_adaptive
    assert resolved.origins["train.optimizer"] == "file mine.yaml"


def test_what_a_preset_sets_together_with_the_method_stays():
    resolved = resolve("cifar100-alexnet-gpm")
    assert resolved.settings.train.lr != 1e-3
    assert resolved.origins["train.lr"] == "preset cifar100-alexnet-gpm"
    # To name the method again changes nothing.
    assert resolve("cifar100-alexnet-gpm", ["method.name=gpm"]).settings == resolved.settings


def test_other_methods_are_left_alone():
    resolved = resolve("digits")
    assert resolved.settings.train.optimizer == "sgd"
    assert resolved.notes == ()


def test_a_run_that_exists_keeps_its_settings_unless_it_is_to_have_another_method():
    first = resolve("digits", ["method.name=gpm", "train.optimizer=sgd"])
    stored = first.settings.to_dict()
    record = {"origins": first.origins, "preset": "digits"}
    again = resolve_again(stored, record, [], None)
    assert (again.settings, again.notes) == (first.settings, ())
    other = resolve_again(resolve("digits").settings.to_dict(), record, ["method.name=gpm"], 2)
    assert other.settings.train.lr == 1e-3
    assert other.notes


def test_wrong_settings_are_still_said_all_at_once():
    with pytest.raises(Exception, match="2 settings cannot be used") as error:
        resolve("digits", ["method.name=gpm", "train.lr=-1", "net.hidden=5"])
    assert "train.lr: -1" in str(error.value)


def test_it_is_said_once_for_all_seeds(tmp_path, capsys):
    runs = targets("digits", tmp_path, seed=None, seeds="1,2", overrides=["method.name=gpm"])
    show_notes(runs, Console())
    said = capsys.readouterr()
    assert said.err.count("gpm trains with train.optimizer=adam") == 1
    assert said.out == ""
