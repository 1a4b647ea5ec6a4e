"""`tidegate registry`: what is registered, what is live, who changed it and why. Reads only; changes are in the modules beside."""

from contextlib import suppress
from datetime import datetime
from typing import Annotated

import typer

from clients.cli import options, output, registry_care, registry_changes, registry_files
from clients.cli.errors import InputError
from clients.cli.options import AsJson, Model, RegistryUrl, TrustedKeys, Version
from registry import compare as comparing
from registry import views
from registry.canonical import Json, JsonObject
from registry.commit import Commit, Kind
from registry.location import Keys, open_registry
from registry.route import parse_target
from registry.times import format_time, parse_time

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="List, show, change, verify and carry what is registered.",
    epilog="""\b
Examples:
  tidegate registry list
  tidegate registry show churn 2 --json
  tidegate registry at churn 2026-01-31T12:00:00Z
  tidegate registry compare churn 1 2
  tidegate registry verify
  tidegate registry export churn 2 --out churn-2.tidegate""",
)
_COLUMNS = ("seq", "time", "kind", "version", "actor", "reason")


@app.command("list")
def list_models(
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Every model: how many versions, what is live, when it last changed."""
    models = views.models(open_registry(registry, keys=Keys(trusted_keys=trusted_keys)))
    if as_json:
        output.write_json(models)
    else:
        _write_rows(("model", "versions", "production", "staging", "updated"), models)


@app.command()
def show(
    model: Model,
    version: Annotated[int | None, typer.Argument(metavar="[VERSION]", help="Show its files and facts.", show_default=False)] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """The versions of a model, or the files and facts of one."""
    opened = open_registry(registry, keys=Keys(trusted_keys=trusted_keys))
    shown = views.state(opened.state(model)) if version is None else views.version(opened, model, version)
    if as_json:
        output.write_json(shown)
    elif version is None:
        _write_rows(("version", "stage", "arm", "percent", "retired", "registered", "actor", "reason"), shown["versions"])
    else:
        _write_version(shown)


@app.command()
def log(
    model: Model,
    version: Annotated[int | None, typer.Option("--version", metavar="N", help="Only what speaks of this version.")] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Every change of a model: when, what, who and why. It is the audit log."""
    opened = open_registry(registry, keys=Keys(trusted_keys=trusted_keys))
    opened.state(model)
    entries = opened.log(model) if version is None else opened.history(model, version)
    commits = [views.commit(entry) for entry in entries]
    if as_json:
        output.write_json(commits)
    else:
        _write_rows(_COLUMNS, [{**entry, "version": _subject(entry)} for entry in commits])


@app.command()
def at(
    model: Model,
    time: Annotated[str, typer.Argument(metavar="TIME", help="ISO 8601; without an offset it is UTC.", show_default=False)],
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """What was live at a time in the past."""
    moment = _moment(time)
    state = open_registry(registry, keys=Keys(trusted_keys=trusted_keys)).state_at(model, moment)
    if as_json:
        output.write_json({"at": format_time(moment), **views.state(state)})
    else:
        live = {"production": state.production, "staging": state.staging, "versions": len(state.versions), "last commit": state.seq}
        output.write_facts({"model": model, "at": format_time(moment), **live})


@app.command()
def compare(
    model: Model,
    first: Version,
    second: Annotated[int, typer.Argument(metavar="OTHER", help="Number of the version to compare it with.", show_default=False)],
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Two versions side by side: what their trainer stated, which files differ, what was decided about each.

    \b
    Example:
      tidegate registry compare churn 1 2
    """
    opened = open_registry(registry, keys=Keys(trusted_keys=trusted_keys))
    found = comparing.compare(opened.state(model), opened.manifest(model, first), opened.manifest(model, second))
    if as_json:
        output.write_json(views.comparison(found))
        return
    rows = [
        (item.name, _short(item.first), _short(item.second), item.change if item.delta is None else f"{item.delta:+.6g}")
        for item in (*found.decisions, *found.facts, *found.files)
    ]
    output.write_table(("what", f"version {first}", f"version {second}", "change"), rows)


@app.command()
def watch(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Only this model.", show_default=False)] = None,
    since: Annotated[
        int | None, typer.Option("--since", metavar="SEQ", min=0, help="Begin behind this commit, 0 for all; else with now.")
    ] = None,
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Write every new commit as it comes, one a line, until it is interrupted; with --json one object a line.

    \b
    Example:
      tidegate registry watch churn --json | while read -r commit; do notify "$commit"; done
    """
    from registry.watch import follow  # noqa: PLC0415 -- asks the system for its C library

    with suppress(KeyboardInterrupt):
        for entry in follow(open_registry(registry, keys=Keys(trusted_keys=trusted_keys)), model, since):
            _write_commit(entry, as_json=as_json)


for commands in (registry_changes, registry_care, registry_files):
    commands.add_to(app)


def _moment(time: str) -> datetime:
    try:
        return parse_time(time)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{time!r} is not a time: write ISO 8601, e.g. 2026-01-31T12:00:00Z") from error


def _write_commit(entry: Commit, *, as_json: bool) -> None:
    shown: JsonObject = {"model": entry.model, **views.commit(entry)}
    if as_json:
        output.write_json_line(shown)
    else:
        _write_line(shown)


def _write_line(shown: JsonObject) -> None:
    subject = _subject(shown)
    what = f"{shown['model']} {shown['seq']} {shown['kind']}{'' if subject is None else f' {subject}'}"
    output.write_line(f"{shown['time']}  {what}  {shown['actor']}: {shown['reason']}")
    output.flush()


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
    """What a commit is about, in a cell: a version, or a route with its weights."""
    payload = entry["payload"]
    assert isinstance(payload, dict)  # noqa: S101 -- the same
    if entry["kind"] not in {Kind.ROUTED, Kind.ROLLED_BACK}:
        subject: Json = payload.get("version")
        return subject
    target = parse_target(payload)
    weights = " ".join(f"{version}={weight}" for version, weight in target.split.items()) if len(target.split) > 1 else str(target.stable)
    return f"{weights} shadow {','.join(map(str, target.shadows))}" if target.shadows else weights


def _short(value: Json) -> output.Cell:
    if isinstance(value, str) and len(value) == 64 and not value.strip("0123456789abcdef"):  # noqa: PLR2004 -- a sha256
        return value[:12]
    if isinstance(value, list):
        return ", ".join(map(str, value)) or None
    return output.cell(value)
