"""Components of our own, and of another installed package."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from ness_cli import registry
from ness_cli.errors import SettingsError
from ness_cli.settings.components import METHODS
from ness_cli.settings.model import Settings
from ness_cli.settings.resolve import build

METADATA = "Metadata-Version: 2.1\nName: small-plugin\nVersion: 1.0\n"
ENTRY_POINTS = """
[ness_cli.methods]
slow-start = small_plugin.methods.slow_start
broken = small_plugin.nowhere

[ness_cli.settings.methods]
slow-start = small_plugin.settings.slow_start
broken = small_plugin.nowhere
fails = small_plugin.fails
bare = small_plugin
"""
METHOD = '''
"""Finetuning that takes the first epoch of a task at a tenth of the gradient."""

from ness_cli.methods.base import Method
from small_plugin.settings.slow_start import Options


class SlowStart(Method):
    """Scales the loss."""

    options: Options

    def loss(self, *args):
        return self.options.factor * super().loss(*args)
'''
OPTIONS = '''
"""Start every task slowly."""

from pydantic import Field

from ness_cli.settings.methods.base import MethodOptions


class Options(MethodOptions):
    """Options of the method."""

    factor: float = Field(default=0.1, gt=0)
    """Factor on the loss."""
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages with one that adds a method."""
    folder = tmp_path_factory.mktemp("site")
    files = {
        "small_plugin-1.0.dist-info/METADATA": METADATA,
        "small_plugin-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
        "small_plugin/__init__.py": "",
        "small_plugin/fails.py": "1 / 0",
        "small_plugin/methods/__init__.py": "",
        "small_plugin/methods/slow_start.py": METHOD,
        "small_plugin/settings/__init__.py": "",
        "small_plugin/settings/slow_start.py": OPTIONS,
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def plugin(site, monkeypatch):
    monkeypatch.syspath_prepend(str(site))
    registry._plugins.cache_clear()
    yield
    monkeypatch.undo()
    registry._plugins.cache_clear()
    Settings.model_rebuild(force=True)


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_a_component():
    assert "slow-start" in registry.names("ness_cli.methods")
    kind = registry.load_class("ness_cli.methods", "slow-start", setting="method.name")
    assert kind.__name__ == "SlowStart"
    options = registry.load("ness_cli.settings.methods", "slow_start", setting="method.name")
    assert options.Options().factor == 0.1


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "'broken' cannot be imported from small_plugin"),
        ("fails", "'fails' cannot be imported from small_plugin.fails: division by zero"),
        ("bare", "'bare' has no class Options in small_plugin"),
    ],
)
def test_a_component_that_cannot_be_used_is_one_line_and_in_nobody_elses_way(name, words):
    with pytest.raises(SettingsError, match=words):
        METHODS.model(name, setting="method.name")
    Settings.model_rebuild(force=True)
    assert build({"method": {"name": "slow-start"}}).options.factor == 0.1
    methods = Settings.model_json_schema()["properties"]["methods"]["properties"]
    assert "slow-start" in methods
    assert name not in methods
    with pytest.raises(SettingsError, match=words) as error:
        build({"method": {"name": name}})
    assert error.value.what.startswith("method.name: ")
    assert "\n" not in error.value.what


def test_a_component_may_not_take_the_name_of_one_of_ours(site, monkeypatch):
    text = ENTRY_POINTS.replace("slow-start =", "gpm =")
    other = site.parent / "other" / "gpm_again-1.0.dist-info"
    other.mkdir(parents=True, exist_ok=True)
    (other / "METADATA").write_text(METADATA)
    (other / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(str(other.parent))
    registry._plugins.cache_clear()
    try:
        with pytest.raises(SettingsError, match="'gpm' is a component of ness and of small_plugin"):
            registry.load("ness_cli.methods", "gpm", setting="method.name")
    finally:
        registry._plugins.cache_clear()


def test_a_run_learns_with_a_method_of_another_package(site, tmp_path):
    command = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {str(site)!r})
        from ness_cli.cli.app import main
        sys.argv = ["ness", "run", "--out", {str(tmp_path / "run")!r}, "--threads", "1", "--quiet",
            "method.name=slow-start", "methods.slow-start.factor=0.5", "data.num_tasks=2",
            "data.limit_per_class=5", "train.epochs=1", "net.hidden=[8]"]
        main()
        """
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "task-02" / "accuracy.json").exists()


def test_unknown_names_say_what_there_is():
    with pytest.raises(SettingsError, match="did you mean 'finetune'"):
        registry.load("ness_cli.methods", "finetun", setting="method.name")
