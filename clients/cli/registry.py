"""`tidegate registry`: what is registered, what is live, who changed it and why, and whether every byte is as recorded. Reads only."""

from typing import Annotated

import typer

from clients.cli import options, output
from clients.cli.errors import InputError, RefusedError
from clients.cli.options import AsJson, Model, RegistryUrl
from registry import verify as verification
from registry import views
from registry.canonical import Json, JsonObject
from registry.commit import format_time, parse_time
from registry.registry import open_registry

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="List, show and verify what is registered.",
    epilog="""\b
Examples:
  tidegate registry list
  tidegate registry show churn 2 --json
  tidegate registry at churn 2026-01-31T12:00:00Z""",
)


@app.command("list")
def list_models(registry: RegistryUrl = options.DEFAULT_REGISTRY, as_json: AsJson = False) -> None:  # noqa: FBT002 -- a flag
    """Every model: how many versions, what is live, when it last changed."""
    models = views.models(open_registry(registry))
    if as_json:
        output.write_json(models)
    else:
        _write_rows(("model", "versions", "production", "staging", "updated"), models)


@app.command()
def show(
    model: Model,
    version: Annotated[int | None, typer.Argument(metavar="[VERSION]", help="Show its files and facts.", show_default=False)] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """The versions of a model, or the files and facts of one."""
    opened = open_registry(registry)
    shown = views.state(opened.state(model)) if version is None else views.version(opened, model, version)
    if as_json:
        output.write_json(shown)
    elif version is None:
        _write_rows(("version", "stage", "registered", "actor", "reason"), shown["versions"])
    else:
        _write_version(shown)


@app.command()
def log(model: Model, registry: RegistryUrl = options.DEFAULT_REGISTRY, as_json: AsJson = False) -> None:  # noqa: FBT002 -- a flag
    """Every change of a model: when, what, who and why. It is the audit log."""
    opened = open_registry(registry)
    opened.state(model)
    commits = [views.commit(entry) for entry in opened.log(model)]
    if as_json:
        output.write_json(commits)
    else:
        _write_rows(("seq", "time", "kind", "version", "actor", "reason"), [{**entry, "version": _subject(entry)} for entry in commits])


@app.command()
def at(
    model: Model,
    time: Annotated[str, typer.Argument(metavar="TIME", help="ISO 8601; without an offset it is UTC.", show_default=False)],
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """What was live at a time in the past."""
    try:
        moment = parse_time(time)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{time!r} is not a time: write ISO 8601, e.g. 2026-01-31T12:00:00Z") from error
    state = open_registry(registry).state_at(model, moment)
    if as_json:
        output.write_json({"at": format_time(moment), **views.state(state)})
    else:
        live = {"production": state.production, "staging": state.staging, "versions": len(state.versions), "last commit": state.seq}
        output.write_facts({"model": model, "at": format_time(moment), **live})


@app.command()
def verify(registry: RegistryUrl = options.DEFAULT_REGISTRY, as_json: AsJson = False) -> None:  # noqa: FBT002 -- a flag
    """Hash everything again and name what is flipped, missing, reordered or forked."""
    report = verification.examine(open_registry(registry).store)
    if as_json:
        output.write_json(views.report(report))
    else:
        for line in verification.describe(report):
            output.write_line(line)
    if report.problems:
        raise RefusedError(f"{registry} is not as it was written: {len(report.problems)} problems, the first in {report.problems[0].key}")


def _write_rows(columns: tuple[str, ...], rows: Json) -> None:
    assert isinstance(rows, list)  # noqa: S101 -- the views say so
    output.write_table(columns, [[output.cell(row[column]) for column in columns] for row in rows])


def _write_version(shown: JsonObject) -> None:
    files, facts = shown["files"], shown["facts"]
    assert isinstance(files, dict)  # noqa: S101 -- the same
    assert isinstance(facts, dict)  # noqa: S101 -- the same
    single = {name: output.cell(value) for name, value in shown.items() if name not in {"files", "facts"}}
    output.write_facts({**single, **{name: output.cell(value) for name, value in facts.items()}})
    output.write_line("")
    output.write_table(("file", "bytes", "sha256"), [[name, file["size"], file["sha256"]] for name, file in files.items()])


def _subject(entry: JsonObject) -> Json:
    payload = entry["payload"]
    assert isinstance(payload, dict)  # noqa: S101 -- the same
    return payload.get("version", payload.get("stable"))
