"""``ness presets``: look at, copy and check the experiments that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ness_cli.cli import completion, options
from ness_cli.cli.session import session

app = typer.Typer(
    help="The experiments that come with ness, and files of your own.", no_args_is_help=True
)


@app.command("ls")
def list_presets(json: options.Json = False) -> None:
    """List the presets by benchmark, one line each."""
    from itertools import groupby

    from ness_cli.results.table import plain_table, titled
    from ness_cli.settings import presets
    from ness_cli.settings.resolve import about_of

    with session(json=json) as workplace:
        summaries: dict[str, str] = {}
        benchmarks: dict[str, list[str]] = {}
        for benchmark, found in groupby(presets.paths().values(), presets.benchmark_of):
            table = plain_table("preset", "what it is", "published", left=2)
            table.columns[0].no_wrap = True
            benchmarks[benchmark], about = [], []
            for path in found:
                title, of_benchmark = presets.head(path)
                about.append(of_benchmark)
                published = about_of(path).published
                table.add_row(path.stem, title, str(published or ""))
                benchmarks[benchmark].append(path.stem)
                summaries[path.stem] = title
            heading = f"{benchmark}: {presets.in_common(about)}"
            workplace.console.result(titled(heading, table, " "))
        document = {"presets": summaries, "benchmarks": benchmarks}
        workplace.console.document({"schema": "ness.presets/1", **document})


@app.command("cat")
def show_preset(name: options.PresetName, json: options.Json = False) -> None:
    """Print a preset."""
    from ness_cli.settings import presets, yaml_files

    with session(json=json) as workplace:
        path = presets.path_of(name)
        text, values = path.read_text(encoding="utf-8"), yaml_files.read(path)
        if not json:
            workplace.console.plain(text)
        found = {"preset": path.stem, "text": text, "values": values}
        workplace.console.document({"schema": "ness.preset/1", **found})


@app.command("cp")
def copy_preset(
    name: options.PresetName,
    to: Annotated[Path, typer.Argument(help="The new file.", show_default=False)],
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.")
    ] = False,
) -> None:
    """Copy a preset to a file, to change it.

    [dim]Example:[/dim]

      ness presets cp digits mine.yaml && ness run --preset mine.yaml
    """
    from ness_cli.errors import SettingsError
    from ness_cli.files import write_bytes
    from ness_cli.settings import presets, yaml_files

    with session() as workplace:
        source = presets.path_of(name)
        target = to / source.name if to.is_dir() else to
        if target.suffix not in (".yaml", ".yml"):
            raise SettingsError(f"{target}: a preset is a .yaml file", f"name it {target}.yaml")
        if target.exists() and not force:
            raise SettingsError(f"{target} is there already", "add --force to replace it")
        write_bytes(target, source.read_bytes())
        data = yaml_files.read(target).get("data", {})
        asks = data.get("source") == "image-folder" and "path" not in data
        workplace.console.next(f"ness run --preset {target}{' data.path=FOLDER' if asks else ''}")


@app.command("validate")
def validate_presets(
    names: Annotated[
        list[str],
        typer.Argument(
            help="Names of presets, or YAML files.",
            autocompletion=completion.presets,
            show_default=False,
        ),
    ],
    json: options.Json = False,
) -> None:
    """Check presets and say everything that is wrong with each."""
    from ness_cli.errors import NessError
    from ness_cli.settings.resolve import resolve

    with session(json=json) as workplace:
        errors: list[NessError] = []
        documents: dict[str, dict[str, Any]] = {}
        for name in names:
            try:
                notes = resolve(name).notes
                documents[name] = {"good": True, "notes": list(notes)}
                if not json:
                    workplace.console.plain(f"{name}: good\n")
                for note in notes:
                    workplace.console.note(f"{name}: {note}")
            except NessError as error:
                documents[name] = {"good": False, "error": error.document()["error"]}
                errors.append(error)
        workplace.console.document({"schema": "ness.presets-checked/1", "presets": documents})
        for each in errors:
            workplace.console.error(each)
        if errors:
            raise typer.Exit(errors[-1].exit_code)


@app.command("schema")
def show_schema(json: options.Json = False) -> None:
    """Print the JSON schema of presets, for editors that complete and check YAML.

    It is JSON in any case.
    """
    from json import dumps

    from ness_cli.settings.model import Preset

    with session(json=json) as workplace:
        workplace.console.plain(dumps(Preset.model_json_schema(), indent=2) + "\n")
