"""What becomes of an edited or damaged ``settings.yaml`` where ``run.json`` is whole."""

from __future__ import annotations

import pytest

from ness_cli.settings.resolve import resolve
from ness_cli.settings.stored import free_values, rebuilt, stored_text


@pytest.fixture
def settings():
    return resolve("images", ["data.path=leaves", "storage.keep=latest"]).settings


@pytest.fixture
def record(settings):
    return {"identity": settings.identity(), "places": ["leaves"]}


def test_what_decides_no_tensor_is_that_of_the_file_and_the_images_are_where_they_were(
    tmp_path, settings, record
):
    path = tmp_path / "settings.yaml"
    edited = stored_text(settings).replace("seconds: 60.0", "seconds: 9.0")
    path.write_text(edited.replace("path: leaves", "path: leavfs"))
    values = rebuilt(path, record)
    assert (values["checkpoint"]["seconds"], values["storage"]["keep"]) == (9.0, "latest")
    assert values["data"]["path"] == "leaves"


@pytest.mark.parametrize("damage", ["epochs: 999", "epochs: [", None])
def test_nothing_is_taken_from_a_file_that_is_of_another_run_no_settings_or_gone(
    tmp_path, settings, record, damage
):
    path = tmp_path / "settings.yaml"
    if damage:
        text = stored_text(settings)
        epochs = f"epochs: {settings.train.epochs}"
        assert epochs in text
        path.write_text(text.replace(epochs, damage))
    values = rebuilt(path, record)
    assert "storage" not in values
    assert values["train"]["epochs"] == settings.train.epochs


def test_values_that_are_no_defaults_are_named(settings, record):
    assert free_values(settings, record) == {"storage.keep": "latest"}
