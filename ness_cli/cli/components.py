"""Components and settings, explained from the option models and their docstrings; no torch."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from ness_cli import registry
from ness_cli.console import Console
from ness_cli.errors import SettingsError
from ness_cli.results.table import Cell, plain_table, titled
from ness_cli.settings.base import Section
from ness_cli.settings.components import Component
from ness_cli.settings.explain import Option, all_options, options_of, plain
from ness_cli.settings.model import PLAIN_GROUPS, Settings
from ness_cli.settings.suggest import unknown_key


@dataclass(frozen=True)
class Components:
    """Components of one kind.

    Attributes:
        kind: What one is called: ``method``.
        command: Command that explains them: ``methods``.
        choice: What one is chosen among.
        prefix: What stands before an option on the command line; ``{name}`` is the component.
        shared: Options that most of them have.
    """

    kind: str
    command: str
    choice: Component
    prefix: str
    shared: type[Section] | None = None

    def options(self, name: str) -> list[Option]:
        """Return the options of a component.

        Raises:
            SettingsError: If there is no such component; names the nearest one.
        """
        model = self.choice.model(name, setting=f"ness {self.command}")
        return list(options_of(model, self.prefix.format(name=name)))

    def summary(self, name: str) -> str:
        """Return what a component is: the first line of its docstring."""
        module = registry.load(self.choice.package, name, setting=f"ness {self.command}")
        return plain((inspect.getdoc(module) or "").splitlines()[0])

    def document(self, names: Iterable[str]) -> dict[str, Any]:
        """Return components by name; their options by bare name, and explained by key."""
        found = {}
        for name in names:
            own, prefix = self.options(name), self.prefix.format(name=name)
            found[name] = {
                "summary": self.summary(name),
                "options": {option.key.removeprefix(prefix): option.default for option in own},
                "required": [o.key.removeprefix(prefix) for o in own if o.is_required],
                "explained": {option.key: option.as_json() for option in own},
            }
        return {"schema": f"ness.{self.kind}s/1", f"{self.kind}s": found}

    def facts(self, name: str) -> list[str]:
        """Return what is to be known of a component besides its options, as sentences."""
        return []

    def overview(self) -> Iterator[RenderableType]:
        """Yield a table of all components, and one of the options that most of them have."""
        every = [] if self.shared is None else list(options_of(self.shared, self.prefix))
        common = [option.assignment for option in every if not option.is_required]
        table = plain_table(self.kind, "what it is, and its options", left=2)
        table.columns[0].no_wrap = True
        for name in self.choice.names():
            own = [option for option in self.options(name) if option.assignment not in common]
            table.add_row(name, Cell("\n".join([self.summary(name), *map(_line, own)])))
        yield titled(f"{self.kind}s", table, f"explained: ness {self.command} NAME", " ")
        if common:
            below = plain_table(
                f"options of nearly every {self.kind}, unless it says otherwise", left=1
            )
            for line in common:
                below.add_row(f"  {_shell(line)}")
            yield below


def show_components(console: Console, components: Components, name: str | None) -> None:
    """Show an overview of all components, or explain one.

    Raises:
        SettingsError: If there is no component of that name; names the nearest one.
    """
    names = components.choice.names() if name is None else [name]
    document = components.document(names)
    if name is None:
        for table in components.overview():
            console.result(table)
    else:
        own = components.options(name)
        title = Text.assemble((f"{name}: ", "bold"), components.summary(name))
        facts = Text("\n".join(components.facts(name)))
        head = Group(title, Padding(facts, (0, 0, 0, 2), expand=False)) if facts else title
        console.result(_apart([head, *map(explained, own)]))
    console.document(document)


def explain_settings(console: Console, key: str | None) -> None:
    """Show the sections, or explain the settings of one, or explain one setting.

    Args:
        console: Where to show it.
        key: Section or key, as ``train``, ``train.sam`` or ``train.lr``.

    Raises:
        SettingsError: If there is no such key; names the nearest settings.
    """
    options = all_options()
    if key is None:
        console.result(_sections(options))
    else:
        options = [o for o in options if o.key == key or o.key.startswith(f"{key}.")]
        if not options:
            raise SettingsError(unknown_key(key), "ness settings lists them all")
        console.result(_apart(map(explained, options)))
    found: dict[str, list[dict[str, Any]]] = {}
    for option in options:
        found.setdefault(option.key, []).append(
            {**option.as_json(), "components": list(option.components)}
        )
    console.document({"schema": "ness.settings/1", "settings": found})


def explained(option: Option) -> RenderableType:
    """Return a setting as it is typed, what it may be, and what it means."""
    head = Text(_shell(option.assignment), style="bold")
    if option.is_required:
        head.append(" (required)", style="not bold dim")
    facts = [option.kind]
    if option.in_effect is not None:
        facts.append("the default, stored as null")
    if option.components:
        names = ", ".join(each.partition("=")[2] for each in option.components)
        facts.append(f"with {option.components[0].partition('=')[0]}={names}")
    body = Group(Text("; ".join(facts), style="dim"), Text(option.text))
    return Group(head, Padding(body, (0, 0, 0, 2), expand=False))


def _apart(parts: Iterable[RenderableType]) -> Group:
    """Return parts with an empty line between each two."""
    return Group(*[each for part in parts for each in (Text(), part)][1:])


def _sections(options: Sequence[Option]) -> RenderableType:
    table = plain_table("section", "what it is, and its settings", left=2)
    table.columns[0].no_wrap = True
    for section, field in Settings.model_fields.items():
        model = PLAIN_GROUPS.get(section)
        summary = plain(field.description or (inspect.getdoc(model) or "").splitlines()[0])
        inside = f"{section}."
        keys = [o.key.removeprefix(inside) for o in options if o.key.startswith(inside)]
        names = ", ".join(dict.fromkeys(keys)) if section != "methods" else ""
        table.add_row(section, Cell("\n".join(filter(None, [summary, names]))))
    return titled("Settings, typed as SECTION.KEY=VALUE", table, "explained: ness settings SECTION")


def _line(option: Option) -> str:
    return f"  {option.key} (required)" if option.is_required else f"  {_shell(option.assignment)}"


def _shell(assignment: str) -> str:
    """Return ``key=value`` as it is typed in a shell, the place to fill in as it is."""
    return assignment if assignment.endswith("=...") else shlex.quote(assignment)
