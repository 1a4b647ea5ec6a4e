"""`tidegate serve` and `tidegate control`: hand their arguments to the daemon or the control plane, whose own flags and help they are."""

from typing import Annotated

import typer

Arguments = Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS]", help="Options of the program.")]


def serve(arguments: Arguments = None) -> None:
    """Run the daemon until SIGTERM."""
    from server.__main__ import main  # noqa: PLC0415 -- the daemon's dependencies need not be installed for `control`

    raise typer.Exit(main(arguments or []))


def control(arguments: Arguments = None) -> None:
    """Run the control plane until SIGTERM."""
    from control_plane.__main__ import main  # noqa: PLC0415 -- the same, the other way round

    raise typer.Exit(main(arguments or []))
