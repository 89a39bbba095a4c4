"""Components found by file name: the directory listing is the registry.

``names("ness_cli.methods")`` lists the components of a package and ``load`` imports one of them on
demand. A name may be written with hyphens where its file has underscores (``image-folder``). The
class of the file ``foo_bar.py`` is ``FooBar``, unless the caller asks for another attribute.

Other installed packages add components through entry points: the group is the name of our package,
the entry's name that of the component, its value their module, whose file has the same name::

    [project.entry-points."ness_cli.methods"]
    my-method = "their_package.methods.my_method"
    [project.entry-points."ness_cli.settings.methods"]
    my-method = "their_package.settings.my_method"
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from ness_cli.errors import SettingsError, did_you_mean

_SHARED_PREFIX = "base"  # base.py and base_*.py hold what components share


def names(package: str) -> list[str]:
    """Return the sorted component names of ``package`` without importing any of them."""
    return sorted({*_own_names(package), *_plugins(package)})


def load(package: str, name: str, *, setting: str) -> ModuleType:
    """Import the component ``name`` of ``package``.

    Args:
        package: Dotted name of the package whose files are the components.
        name: Component name, hyphens allowed.
        setting: Where the name was written, for the error message: ``method.name``.

    Raises:
        SettingsError: If there is no such component; the message names the nearest one. If another
            package gives its component the name of one of ours, or its module does not import.
    """
    key, plugins = name.replace("_", "-"), _plugins(package)
    if key in _own_names(package):
        if key in plugins:
            raise SettingsError(
                f"{setting}: {key!r} is a component of ness and of {plugins[key].value}",
                "uninstall that package, or have its entry point renamed",
            )
        return importlib.import_module(f"{package}.{key.replace('-', '_')}")
    if key in plugins:
        return _loaded(plugins[key], setting)
    known = names(package)
    raise SettingsError(
        f"{setting}: unknown name {name!r}{did_you_mean(name, known)}",
        f"known names: {', '.join(known)}",
    )


@cache
def _own_names(package: str) -> tuple[str, ...]:
    folder = Path(str(importlib.import_module(package).__file__)).parent
    found = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return tuple(name.replace("_", "-") for name in found if not name.startswith(_SHARED_PREFIX))


@cache
def _plugins(package: str) -> dict[str, EntryPoint]:
    """Return what other installed packages add to a package, by name."""
    return {entry.name.replace("_", "-"): entry for entry in entry_points(group=package)}


def _loaded(entry: EntryPoint, setting: str) -> ModuleType:
    try:
        module = entry.load()
    except Exception as error:  # whatever another package does when it is imported
        raise SettingsError(
            f"{setting}: {entry.name!r} cannot be imported from {entry.value}: {error}",
            "reinstall the package that brings it, or uninstall it",
        ) from error
    assert isinstance(module, ModuleType)
    return module


def load_class(package: str, name: str, *, setting: str, attribute: str | None = None) -> Any:
    """Return the class of component ``name``: ``FooBar`` of ``foo_bar.py``, or ``attribute``.

    Raises:
        SettingsError: If there is no such component, or no such class in it.
    """
    module = load(package, name, setting=setting)
    camel = "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
    wanted = attribute or camel
    if not hasattr(module, wanted):
        raise SettingsError(
            f"{setting}: {name!r} has no class {wanted} in {module.__name__}",
            "have the package that brings it corrected, or uninstall it",
        )
    return getattr(module, wanted)
