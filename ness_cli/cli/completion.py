"""What a shell offers when TAB is pressed: presets, components, settings and their values.

``ness --install-completion`` teaches it to the shell. Nothing here imports torch, and whatever is
wrong with the line so far, nothing is raised: there is less to offer then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from ness_cli.errors import NessError

if TYPE_CHECKING:
    from ness_cli.settings.explain import Option

Offer = tuple[str, str]  # what to type, and what it means


def presets(incomplete: str) -> list[Offer]:
    """Return the presets that begin so."""
    from ness_cli.settings import presets as known

    return [(n, known.head(p)[0]) for n, p in known.paths().items() if n.startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """Return the methods that begin so."""
    return _components("method.name", incomplete)


def networks(incomplete: str) -> list[str]:
    """Return the networks that begin so."""
    return _components("net.name", incomplete)


def sources(incomplete: str) -> list[str]:
    """Return the data sources that begin so."""
    return _components("data.source", incomplete)


def formats(incomplete: str) -> list[str]:
    """Return the formats of exported models that begin so."""
    from ness_cli import registry

    names = registry.names("ness_cli.export.formats")
    return [name for name in names if name.startswith(incomplete)]


def devices(incomplete: str) -> list[str]:
    """Return the kinds of devices that begin so."""
    return [name for name in ("auto", "cpu", "cuda", "mps") if name.startswith(incomplete)]


def report_formats(incomplete: str) -> list[str]:
    """Return the formats of a report that begin so."""
    from ness_cli.registry import names

    known = names("ness_cli.results.formats")
    return [name for name in known if name.startswith(incomplete)]


def settings(incomplete: str) -> list[Offer]:
    """Return the sections and settings that begin so."""
    from ness_cli.settings.explain import all_options
    from ness_cli.settings.model import Settings

    texts = dict.fromkeys(Settings.model_fields, "") | {
        option.key: option.text for option in all_options()
    }
    return [(key, text) for key, text in texts.items() if key.startswith(incomplete)]


def overrides(ctx: typer.Context, incomplete: str) -> list[Offer]:
    """Return the settings that begin so, or where one is meant its values, as ``key=value``."""
    from ness_cli.settings.explain import all_options

    *_, last = ["", *_joined(ctx.params.get("overrides") or ())]
    # The word before is a key, and bash wants its value alone. Where nothing follows the "=", it
    # does not come here either.
    cut = f"{last.rstrip('=')}=" if last and (last.endswith("=") or "=" not in last) else ""
    incomplete = f"{cut}{incomplete}"
    options = all_options(_components_of(ctx.params))
    found = [option for option in options if f"{option.key}=".startswith(incomplete)]
    exact = [option for option in options if incomplete.startswith(f"{option.key}=")]
    if len(found) != 1 and not exact:
        return [(f"{option.key}=", option.text) for option in found]
    offers = _values((exact or found)[0])
    return [(o.removeprefix(cut), text) for o, text in offers if o.startswith(incomplete)]


def _values(option: Option) -> Iterator[Offer]:
    """Yield what may be typed for a setting; its default where there is no list of choices."""
    if not option.choices:
        # Beside the default: of two offers a shell types what they share, and no space after it.
        yield f"{option.key}=", option.text
        yield option.assignment, "the default"
    for choice in option.choices:
        yield f"{option.key}={choice}", option.text


def _components_of(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the components of the run that a line so far means, or those of the default preset."""
    from ness_cli.settings import precedence

    try:
        typed = [word for word in _joined(params.get("overrides") or ()) if "=" in word]
        found = precedence.components(params.get("preset"), typed)
        return found if _are_known(found) else precedence.components(None, ())
    except NessError:
        return precedence.components(None, ())


def _are_known(components: Mapping[str, str]) -> bool:
    from ness_cli.settings.components import CHOICES

    return all(CHOICES[key].has(name) for key, name in components.items())


def _joined(words: Sequence[str]) -> list[str]:
    """Return the settings of a line so far: bash makes three words of ``key=value``."""
    joined: list[str] = []
    for word in words:
        if joined and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _components(key: str, incomplete: str) -> list[str]:
    from ness_cli.settings.components import CHOICES

    return [name for name in CHOICES[key].names() if name.startswith(incomplete)]
