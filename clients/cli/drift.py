"""`tidegate drift`: what the daemon counted of the rows a version answered, feature by feature. The arithmetic is the daemon's."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from clients.cli import options, output
from clients.cli.client_errors import daemon_at
from clients.cli.options import Address, AsJson, ClientCert, ClientKey, Model, TlsCa, TokenFile
from tidegate_client import Drift, FeatureDrift


def drift(
    model: Model,
    address: Address = options.DEFAULT_DAEMON,
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help="A number, staging or production.")] = "production",
    window: Annotated[
        str,
        typer.Option(
            "--window",
            metavar="LENGTH",
            help="The last completed window of this length, e.g. 1h or 10000rows; one that is not there is answered by those that are. "
            "Without it: everything since the daemon first loaded the version.",
            show_default=False,
        ),
    ] = "",
    arm: Annotated[
        str,
        typer.Option(
            "--arm",
            metavar="ARM",
            help="stable, canary or shadow. Without it: production traffic, which is stable and canary together.",
            show_default=False,
        ),
    ] = "",
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Compare the rows a version was asked about with those it was trained on.

    PSI and KS say how far a feature moved, p how likely chance alone moves it as far. "drifted" judges these rows alone; "lasts" says that
    completed windows in a row have shown it, which is what alerts go by. It is a report: exit code 0, drifted or not.

    \b
    Examples:
      tidegate drift churn                           everything since the daemon first loaded the production version
      tidegate drift churn --window 1h               the last whole hour
      tidegate drift churn --version 8 --arm shadow  what version 8 computed as a shadow
      tidegate drift churn --json
    """
    with daemon_at(address, token_file, tls_ca, client_cert, client_key) as client:
        found = client.drift(model, version, window=window, arm=arm)
    if as_json:
        output.write_json({**asdict(found), "drifted": found.drifted, "persistent": found.persistent})
    else:
        _write(found)


def _write(found: Drift) -> None:
    about = f"{found.model} version {found.version}{f', {found.arm}' if found.arm else ''}"
    if found.window and not found.ended:
        output.write_line(f"{about}: no window of {found.window} has been completed yet; the first began {_time(found.started)}")
        return
    drifted = f"drifted: {', '.join(found.drifted)}" if found.drifted else "nothing drifted"
    between = f" from {_time(found.started)} to {_time(found.ended)}" if found.ended else ""
    output.write_line(f"{about}: {found.rows} rows{between}, {drifted}")
    if found.uncounted:
        output.write_line(f"not counted: {', '.join(found.uncounted)}; the daemon's log says why")
    if found.features:
        output.write_table(("feature", "kind", "psi", "ks", "p", "drifted", "lasts"), [_row(feature) for feature in found.features])


def _row(feature: FeatureDrift) -> list[output.Cell]:
    drifted = "yes" if feature.drifted else "a little" if feature.warned else "no"
    return [feature.name, feature.kind, feature.psi, feature.ks, feature.p_value, drifted, "yes" if feature.persistent else "no"]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
