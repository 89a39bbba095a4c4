"""The studies that come with the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from ness_cli.settings.components import METHODS
from ness_cli.settings.resolve import resolve
from ness_cli.settings.study_files import read_study
from ness_cli.study.folder import StudyFolder
from ness_cli.study.plan import StudyPlan
from ness_cli.study.tune import refuse_bad_space

STUDIES = Path(__file__).parents[1] / "studies"


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_row_of_a_study_is_a_run_of_its_own(path):
    study = read_study(path)
    resolved = study.resolved()
    assert len({each.settings.fingerprint() for each in resolved.values()}) == len(resolved)
    assert all(len(each) <= 3 for each in study.settings.choices.values())


def test_the_search_that_comes_with_the_repository_has_values_that_can_be_used(tmp_path):
    study = read_study(STUDIES / "tune-digits.yaml")
    assert study.settings.search is not None
    refuse_bad_space(StudyPlan(study, StudyFolder(tmp_path)), study.settings.search)


def test_the_study_of_bounded_scaling_can_be_run_at_the_published_length():
    full = read_study(STUDIES / "bounded.yaml", base="cifar100-alexnet-ness-sgdm", seeds=[1, 37])
    assert {each.settings.train.epochs for each in full.resolved().values()} == {200}
    assert full.settings.seeds == [1, 37]


@pytest.mark.parametrize("name", ["family", "family-digits", "family-pmnist"])
def test_the_studies_of_the_family_have_every_method(name):
    found = read_study(STUDIES / f"{name}.yaml").resolved().values()
    # Prompts need a vision transformer.
    assert {each.settings.method.name for each in found} == set(METHODS.names()) - {"nsp2"}


@pytest.mark.parametrize("name", ["ness", "gpm", "trgp", "dfgp", "ewc", "agem"])
def test_a_row_of_permuted_mnist_is_the_preset_of_its_name(name):
    row = read_study(STUDIES / "family-pmnist.yaml").resolved()[name]
    preset = resolve(f"pmnist-mlp-{name}")
    assert row.settings.identity() == preset.settings.identity()
