"""What somebody may have meant by a key that is no setting."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from ness_cli.settings.components import METHODS
from ness_cli.settings.explain import all_options, options_of
from ness_cli.settings.model import Settings
from ness_cli.settings.reproduction import About

_MOST = 4
_ITEM = re.compile(r"\.sources\[\d+\]")


def unknown_key(key: str, component: str = "") -> str:
    """Return what is wrong with a key that is no setting here, and which settings are near it.

    Args:
        key: As it was typed: ``train.lrr``, ``data.sources[0].pth``.
        component: Name of the component that the settings beside it belong to.
    """
    known = list(options_of(About, "about.")) if key.startswith("about.") else all_options()
    owners = [name for option in known if option.key == key for name in option.components]
    if owners:
        return f"{key}: unknown key here; it belongs to {' and '.join(owners)}"
    section = key.rpartition(".")[0]
    general = _ITEM.sub("", section)  # the data sets of a sequence have the settings of their own
    here = (
        METHODS.names()
        if section == "methods"
        else [
            last
            for option in known
            for before, _, last in [option.key.rpartition(".")]
            if before == general
            and any(_is_of(component, each) for each in option.components or [""])
        ]
    )
    texts = {f"{section}.{each}".lstrip("."): "" for each in here} | {
        each.key: each.text for each in known
    }
    meant = near(key, texts)
    if not meant and not section:
        meant = difflib.get_close_matches(key, list(Settings.model_fields), n=1)
    beside = f" (known keys: {', '.join(here) or 'none'})" if section and not meant else ""
    return f"{key}: unknown key{_question(meant)}{beside}"


def _is_of(component: str, owner: str) -> bool:
    """Return whether the owner of a setting, as ``data.source=npz``, is a component; all are."""
    return not owner or owner.endswith(f"={component}")


def near(key: str, texts: Mapping[str, str]) -> list[str]:
    """Return the settings that may be meant by a key that does not exist, nearest first.

    Their last part is the same; or it is similar, first of all in the same section; or their
    explanation has these words.

    Args:
        key: As it was typed.
        texts: Explanations by key.
    """
    section, _, last = key.rpartition(".")
    ends: dict[str, list[str]] = {}
    for each in texts:
        ends.setdefault(each.rpartition(".")[2], []).append(each)
    own = {end: [each for each in ends[end] if _is_in(section, each)] for end in ends}
    own = {end: keys for end, keys in own.items() if keys}
    found = ends.get(last, [])
    for among, cutoff in ((own, 0.6), (ends, 0.7)):
        if not found:
            similar = difflib.get_close_matches(last, among, n=2, cutoff=cutoff)
            found = [each for end in similar for each in among[end]]
    if not found and len(last) > 3:
        words = last.replace("_", " ").lower()
        starts = {each: text.lower().find(words) for each, text in texts.items()}
        # What an explanation begins with, it is about.
        found = sorted((each for each in starts if 0 <= starts[each] < 10), key=starts.__getitem__)
    # Of several alike, those of the section that was typed come first.
    return sorted(found, key=lambda each: not _is_in(section, each))[:_MOST]


def _is_in(section: str, key: str) -> bool:
    return bool(section) and key.startswith(f"{section}.")


def _question(meant: Sequence[str]) -> str:
    if not meant:
        return ""
    *others, last = [repr(each) for each in meant]
    return f"; did you mean {', '.join(others)} or {last}?" if others else f"; did you mean {last}?"
