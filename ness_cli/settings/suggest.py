"""What somebody may have meant by a key that is no setting."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ness_cli.settings.groups import KEYS

_MOST = 4


def unknown_key(key: str, siblings: Sequence[str] = ()) -> str:
    """Return what is wrong with a key that is no setting here, and which settings are near it.

    Args:
        key: As it was typed: ``train.lrr``.
        siblings: Keys that could stand in its place.
    """
    # The option models of data sets use this module where they are validated.
    from ness_cli.settings.explain import all_options

    known = all_options()
    owners = [name for option in known if option.key == key for name in option.components]
    if owners:
        return f"{key}: unknown key here; it belongs to {' and '.join(owners)}"
    section = key.rpartition(".")[0]
    texts = {f"{section}.{each}": "" for each in siblings} | {each.key: each.text for each in known}
    meant = near(key, texts)
    if not meant and "." not in key:
        meant = difflib.get_close_matches(key, KEYS, n=1)
    here = f" (known keys: {', '.join(siblings) or 'none'})" if section and not meant else ""
    return f"{key}: unknown key{_question(meant)}{here}"


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


def leaves(nested: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the key of every value and of every empty group."""
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _is_in(section: str, key: str) -> bool:
    return bool(section) and key.startswith(f"{section}.")


def _question(meant: Sequence[str]) -> str:
    if not meant:
        return ""
    *others, last = [repr(each) for each in meant]
    return f"; did you mean {', '.join(others)} or {last}?" if others else f"; did you mean {last}?"
