"""`tidegate quality`: what a version was worth, asked of a control plane, or read from the logs by the same code. Flags and tables."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clients.cli import control as control_plane_at
from clients.cli import options, output
from clients.cli.errors import InputError, RefusedError
from clients.cli.options import AsJson, ControlUrl, Model, RegistryUrl, TrustedKeys
from registry.canonical import JsonObject
from registry.location import Keys, open_registry
from registry.times import parse_time

if TYPE_CHECKING:
    from control_plane.quality.assess import Span

_COHORT = ("day", "rows", "coverage", "auc", "auc_low", "auc_high", "log_loss", "brier", "immature", "auc_estimate")


def quality(
    model: Model,
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help="A number, staging or production.")] = "production",
    since: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Rows from then on; 30 days without it.", show_default=False)
    ] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Rows before then.", show_default=False)] = None,
    mature: Annotated[str, typer.Option("--mature", metavar="AGE", help="Judge rows older than this: 90s, 30m, 12h, 7d.")] = "1d",
    predictions: Annotated[
        Path | None, typer.Option("--predictions", metavar="DIR", help="Prediction log of the daemons.", show_default=False)
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option("--feedback", metavar="DIR", help="Feedback log of the daemons.", show_default=False)
    ] = None,
    control: ControlUrl = "",
    registry: RegistryUrl = options.DEFAULT_REGISTRY,
    trusted_keys: TrustedKeys = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Say what a version was worth, by the labels that came, day by day.

    Only rows old enough for their labels are judged. Estimates need no labels: they hold if the scores mean what they say. Figures come
    with the bounds of their intervals of 95 %. It is a report: exit code 0, good or bad.

    \b
    Examples:
      tidegate quality churn --predictions log/predictions --feedback log/feedback --mature 7d
      tidegate quality churn --control http://127.0.0.1:8000 --from 2026-03-01 --json
    """
    found: JsonObject
    if predictions is not None:
        found = _read(model, version, (since, until, mature), (predictions, feedback), (registry, trusted_keys))
    elif control and feedback is None:
        query = {"version": version, "from": since, "until": until, "mature": mature}
        found = control_plane_at.get(control, model, "quality", {name: value for name, value in query.items() if value is not None})
    else:
        raise InputError("say where the logs are: --predictions DIR and --feedback DIR, or the --control URL of a control plane")
    if as_json:
        output.write_json(found)
    else:
        _write(found)


def _read(
    model: str,
    version: str,
    asked: tuple[str | None, str | None, str],
    folders: tuple[Path, Path | None],
    where: tuple[str, Path | None],
) -> JsonObject:
    # Imported here: with --control neither DuckDB nor the control plane need be installed.
    from control_plane.errors import ControlPlaneError, ScoreMissingError  # noqa: PLC0415
    from control_plane.quality.assess import assess  # noqa: PLC0415
    from control_plane.quality.join import Logs  # noqa: PLC0415
    from control_plane.quality.schemas import quality_view  # noqa: PLC0415

    opened = open_registry(where[0], keys=Keys(trusted_keys=where[1]))
    try:
        found: JsonObject = quality_view(assess(opened, Logs(*folders), model, version, _span(*asked))).model_dump(mode="json")
    except ScoreMissingError as error:
        raise RefusedError(str(error)) from error
    except ControlPlaneError as error:
        raise InputError(str(error)) from error
    return found


def _span(since: str | None, until: str | None, mature: str) -> "Span":
    from control_plane.quality.assess import parse_age, span  # noqa: PLC0415 -- as above

    return span(datetime.now(UTC), parse_age(mature), _time("--from", since), _time("--until", until))


def _time(flag: str, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_time(text)
    except ValueError as error:
        raise InputError(f"{flag} {text}: not a time: write it as 2026-01-31T12:00:00Z") from error


def _write(found: Mapping[str, Any]) -> None:
    total = found["total"]
    output.write_line(f"{found['model']} version {found['version']}, positive class {found['positive']}")
    output.write_facts(
        {
            "rows": f"{total['rows']} mature, {total['immature']} younger",
            "labelled": f"{total['labelled']} ({_percent(total['coverage'])}), {total['positives']} positive",
            "AUC": _figure(total["auc"]),
            "log loss": _figure(total["log_loss"]),
            "Brier score": _figure(total["brier"]),
            "accuracy": _figure(total["accuracy"]),
            "calibration error": found["calibration_error"],
            "estimated AUC": _estimated(total["estimate"]),
            "left out": f"{found['unscored']} without a score, {found['foreign']} with a label that is no class",
            "labels": "{lines} lines, {duplicate} duplicate, {replaced} replaced, {unknown} of unknown predictions".format(
                **found["labels"]
            ),
        }
    )
    if found["cohorts"]:
        output.write_table(_COHORT, [_cohort(cohort["day"], cohort["judgement"]) for cohort in found["cohorts"]])


def _cohort(day: str, judged: Mapping[str, Any]) -> list[output.Cell]:
    auc = judged["auc"]
    figures = (judged["log_loss"]["value"], judged["brier"]["value"], judged["immature"], judged["estimate"]["auc"])
    return [day, judged["rows"], judged["coverage"], auc["value"], auc["low"], auc["high"], *figures]


def _figure(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return f"- ({figure['reason']})"
    bounds = figure["reason"] if figure["low"] is None else f"{figure['low']:.4f} to {figure['high']:.4f}"
    return f"{figure['value']:.4f} ({bounds})"


def _estimated(estimate: Mapping[str, Any]) -> str:
    if estimate["auc"] is None:
        return "-"
    basis = f"recalibrated by {estimate['recalibrated_by']} labels" if estimate["recalibrated_by"] else "scores as they are"
    return f"{estimate['auc']:.4f} of {estimate['rows']} rows, {basis}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
