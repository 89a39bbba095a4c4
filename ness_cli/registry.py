"""Components found by file name: the directory listing is the registry.

``names("ness_cli.methods")`` lists the components of a package and ``load`` imports one of them on
demand. A name may be written with hyphens where its file has underscores (``image-folder``). The
class of the file ``foo_bar.py`` is ``FooBar``, unless the caller asks for another attribute.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from ness_cli.errors import SettingsError, did_you_mean

_SHARED_PREFIX = "base"  # base.py and base_*.py hold what components share


def names(package: str) -> list[str]:
    """Return the sorted component names of ``package`` without importing any of them."""
    folder = Path(str(importlib.import_module(package).__file__)).parent
    found = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return sorted(name.replace("_", "-") for name in found if not name.startswith(_SHARED_PREFIX))


def load(package: str, name: str, *, place: str) -> ModuleType:
    """Import the component ``name`` of ``package``.

    Args:
        package: Dotted name of the package whose files are the components.
        name: Component name, hyphens allowed.
        place: Where the name was written, for the error message: ``method.name``.

    Raises:
        SettingsError: If there is no such component; the message names the nearest one.
    """
    known = names(package)
    if name.replace("_", "-") not in known:
        raise SettingsError(
            f"{place}: unknown name {name!r}{did_you_mean(name, known)}",
            f"known names: {', '.join(known)}",
        )
    return importlib.import_module(f"{package}.{name.replace('-', '_')}")


def load_class(package: str, name: str, *, place: str, attribute: str | None = None) -> Any:
    """Return the class of component ``name``: ``FooBar`` of ``foo_bar.py``, or ``attribute``.

    Raises:
        SettingsError: If there is no such component.
    """
    module = load(package, name, place=place)
    camel = "".join(part.capitalize() for part in name.replace("-", "_").split("_"))
    return getattr(module, attribute or camel)
