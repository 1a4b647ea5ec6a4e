"""`tidegate token`: a new token for callers of the daemon, and the lines about it for the token file. Nothing is written anywhere."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from clients.cli import output
from clients.cli.errors import InputError
from clients.cli.options import AsJson
from server import tokens
from server.errors import SettingsError


def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will hold it.", show_default=False)],
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope", metavar="SCOPE", help="infer, read, feedback or *; with models: infer:fraud-*. May be repeated.", show_default=False
        ),
    ],
    rate: Annotated[float | None, typer.Option("--rate", metavar="ROWS", help="Most rows a second.", show_default=False)] = None,
    burst: Annotated[float | None, typer.Option("--burst", metavar="ROWS", help="Most rows at once.", show_default=False)] = None,
    days: Annotated[int | None, typer.Option("--days", min=1, max=36_500, help="Valid so long; else for ever.", show_default=False)] = None,
    as_json: AsJson = False,  # noqa: FBT002 -- a flag
) -> None:
    """Make a token: give it to NAME, and append the entry to the daemon's token file (tidegate serve --tokens FILE).

    The token is shown this once. The entry holds only its hash; a running daemon sees the changed file within a second or two.

    \b
    Examples:
      tidegate token shop --scope infer:churn --scope read:churn --rate 1000
      tidegate token prometheus --scope read --days 365
    """
    made = tokens.new_token()
    expires = None if days is None else datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    try:
        entry = tokens.entry_of(made, name, tuple(scope), rate=rate, burst=burst, expires=expires)
    except SettingsError as error:
        raise InputError(str(error)) from error
    if as_json:
        output.write_json({"token": made, "entry": tokens.entry_text(entry)})
        return
    output.write_line(f"token, shown this once: {made}")
    output.write_line("entry for the token file:")
    output.write_line("")
    output.write_document(tokens.entry_text(entry))
