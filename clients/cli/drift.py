"""`tidegate drift`: what the daemon counted of the rows a version answered, feature by feature. The arithmetic is the daemon's."""

from dataclasses import asdict
from typing import Annotated

import typer

from clients.cli import options, output
from clients.cli.client_errors import daemon_at
from clients.cli.options import Address, AsJson, ClientCert, ClientKey, Model, TlsCa, TokenFile
from tidegate_client import Drift


def drift(
    model: Model,
    address: Address = options.DEFAULT_DAEMON,
    version: Annotated[str, typer.Option("--version", metavar="VERSION", help="A number, staging or production.")] = "production",
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    client_cert: ClientCert = None,
    client_key: ClientKey = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Compare the rows a version was asked about with those it was trained on.

    PSI and KS say how far a feature moved, p how likely chance alone moves it as far. It is a report: exit code 0, drifted or not.

    \b
    Example:
      tidegate drift churn --json
    """
    with daemon_at(address, token_file, tls_ca, client_cert, client_key) as client:
        found = client.drift(model, version)
    if as_json:
        output.write_json({**asdict(found), "drifted": found.drifted})
    else:
        _write(found)


def _write(found: Drift) -> None:
    drifted = f"drifted: {', '.join(found.drifted)}" if found.drifted else "nothing drifted"
    output.write_line(f"{found.model} version {found.version}: {found.rows} rows, {drifted}")
    if found.features:
        rows = [[item.name, item.kind, item.psi, item.ks, item.p_value, "yes" if item.drifted else "no"] for item in found.features]
        output.write_table(("feature", "kind", "psi", "ks", "p", "drifted"), rows)
