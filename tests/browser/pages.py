"""Reports and tables of studies in which every name is one that was made to harm."""

from __future__ import annotations

import json
import string
from pathlib import Path

from made_up_run import call_everything, made_up
from typer.testing import CliRunner

from ness_cli.cli.app import app

# Whatever of this came to run would show in the page itself, and ask for a file. Without a space
# and a bracket: some stand in attributes without quotes.
RUN = "window.pwned=1;document.title='pwned';document.createElement('img').src='pwned.png'"
NAMES = (
    f"<script>{RUN}</script>",
    f"</script><script>{RUN}</script>",
    f"</style><script>{RUN}</script>",
    f"</title><script>{RUN}</script>",
    f"</textarea></pre></code></details><script>{RUN}</script>",
    f"--><script>{RUN}</script><!--",
    f"]]></text></svg><script>{RUN}</script><![CDATA[",
    f"<img src=pwned.png onerror={RUN}>",
    f"<svg onload={RUN}><set attributeName=x onbegin={RUN}>",
    f"<svg><script href='data:,{RUN}'></script><a xlink:href='javascript:{RUN}'>x</a>",
    f'"><body onload="{RUN}"><input autofocus onfocus="{RUN}" x="',
    f"' onmouseover='{RUN}' style='background:url(pwned.png)",
    f"javascript:{RUN}",
    f"<a href=javascript:{RUN}>x</a><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<link rel=stylesheet href=pwned.css><style>@import 'pwned.css';*{display:none}</style>",
    "<base href=//pwned.invalid><meta http-equiv=refresh content='0;url=pwned.html'>",
    "url(#pwned) url(pwned.png) id=\"pwned\" \"#pwned #24292f #c9d1d9 expression(pwned)",
    "</td></tr></table><table><tr><td>1<td>2<th>3",
    "| a | b |\n| - | - |\n\n# c\n\n![d](pwned.png) [e](javascript:pwned) `f` <g@h.i> ~~j~~ &lt;",
    "\\input{pwned} \\write18{pwned} $x_1^2$ % # & ~ {} \\begin{x} \\\\ [1em] *",
    "${pwned} {{pwned}} <%= pwned %> #{pwned} `${pwned}`",
    "\x1b]0;pwned\x07\x1b[31mred\x9b32m\x00\x7f \u2028\u2029\u0085 \r\n::error::pwned",
    "\u202egnp.exe\u202c \u2066a\u2069 \u200b\u200d\ufeff \ufffe \ud800 \U000e0041",
    "=cmd|' /C calc'!A1", "+1+1", "-2+3", "@SUM(1+1)",
    "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306" * 8,
    "x" * 200,
)  # fmt: skip
_LETTERS = str.maketrans({c: "x" for c in map(chr, range(0x80)) if c not in string.ascii_letters})


def spelled(name: str) -> str:
    """Return a name as it is to be shown."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def harmless(name: str) -> str:
    """Return a name of letters that is as long as a harmful one when it is shown."""
    return spelled(name).translate(_LETTERS)


def folder_name(name: str) -> str:
    """Return what of a name a folder may be called."""
    plain = name.replace("/", "\u2215").replace("\0", "").replace("\ud800", "")
    return plain.encode()[:240].decode(errors="ignore")


def make_runs(parent: Path, names: tuple[str, ...], folders: tuple[str, ...]) -> Path:
    """Make an experiment of every name, of two seeds with three tasks, and return their folder.

    Folders, classes, tasks, layers, presets, settings, methods' labels, notes and versions are it.
    """
    for index, (name, folder) in enumerate(zip(names, folders, strict=True)):
        for seed in (1, 2):
            layers = [{"layer": name, "free_percent": 12.5, "rank": 1, "d": 8}]
            run = made_up(
                parent / f"{index:02d}{folder}" / f"seed-{seed}",
                seed,
                more={"layers": layers},
                settings={"data.path": name, "net.arguments": {name: name}},
                order=range(3),
            )
            _rename(run, name)
    return parent


def _rename(run: Path, name: str) -> None:
    call_everything(run, name)
    epochs = [{"train_loss": 1.0 / e, "valid_accuracy": 50.0 + e} for e in (1, 2, 3)]
    lines = "".join(json.dumps(entry) + "\n" for entry in epochs)
    (run / "task-01" / "history.jsonl").write_text(lines)


def saved(out: Path, *words: object) -> Path:
    """Type a command with ``--save`` and return the folder that it wrote."""
    result = CliRunner().invoke(app, [*map(str, words), "--save", str(out)])
    assert result.exit_code == 0, result.output
    return out
