"""The entry of `tidegate`: the names of the commands, and every error as one line and an exit code. Each command has its own module."""

import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TextIO

import typer
from typer.core import TyperGroup
from typer.main import get_command

from clients.cli import errors, output
from clients.cli.errors import CliError
from registry.errors import RegistryError

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter

_NAME = "tidegate"
_EPILOG = """Exit code: 0 done, 1 refused by a rule or a check, 2 bad usage or input.

\b
Examples:
  tidegate train spec.toml                      fit, check and register versions
  tidegate registry list                        what is registered, what is live
  tidegate promote churn 2 --to production --reason "AUC 0.81, was 0.78"
  tidegate serve                                answer on 127.0.0.1:8001
  tidegate predict churn --rows customers.csv   ask the daemon
  tidegate rollback churn --reason "complaints" back to the version before"""


@dataclass(frozen=True)
class Lazy:
    """A command that is imported when it is asked for: where it stands, and its line in the list of commands."""

    module: str
    function: str
    help: str
    passes_arguments: bool = False
    """Everything after its name goes to another program, `--help` too"""


_COMMANDS = {
    "train": Lazy("clients.cli.train", "train", "Fit, check and register versions from a spec file."),
    "registry": Lazy("clients.cli.registry", "app", "List, show, change, verify and carry what is registered."),
    "promote": Lazy("clients.cli.promote", "promote", "Put a version into staging or production."),
    "rollback": Lazy("clients.cli.promote", "rollback", "Return production to the version before."),
    "route": Lazy("clients.cli.promote", "route", "Say which versions answer production traffic."),
    "serve": Lazy("clients.cli.serve", "serve", "Run the daemon (gRPC).", passes_arguments=True),
    "control": Lazy("clients.cli.serve", "control", "Run the control plane (REST).", passes_arguments=True),
    "token": Lazy("clients.cli.token", "token", "Make a token for callers of the daemon."),
    "predict": Lazy("clients.cli.predict", "predict", "Send rows of a file to the daemon."),
    "feedback": Lazy("clients.cli.feedback", "feedback", "Send labels of a file to the daemon."),
    "quality": Lazy("clients.cli.quality", "quality", "Say what a version was worth, by the labels that came."),
    "drift": Lazy("clients.cli.drift", "drift", "Compare what a version was asked with what it was trained on."),
    "profile": Lazy("clients.cli.profile", "profile", "Make the drift profile of a model from data of any size."),
    "card": Lazy("clients.cli.card", "card", "Write the model card of a version."),
}


class LazyGroup(TyperGroup):
    """The commands of the table above, none of them imported before it is used."""

    def list_commands(self, ctx: "Context") -> list[str]:
        """Every name, in the order of the table."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        """Import the command of this name; another name is a usage error that says which there are."""
        if cmd_name not in _COMMANDS and not cmd_name.startswith("-"):
            ctx.fail(f"No command {cmd_name!r}: use {', '.join(_COMMANDS)}.")
        return _load(cmd_name, _COMMANDS[cmd_name]) if cmd_name in _COMMANDS else None

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in _COMMANDS.items()])


def _load(name: str, lazy: Lazy) -> "Command":
    target = getattr(importlib.import_module(lazy.module), lazy.function)
    if isinstance(target, typer.Typer):
        return get_command(target)
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    settings: dict[str, object] = {"ignore_unknown_options": True, "help_option_names": []} if lazy.passes_arguments else {}
    app.command(name, context_settings=settings)(target)
    return get_command(app)


app = typer.Typer(cls=LazyGroup, add_completion=False, rich_markup_mode=None)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 -- typer hands the flag over by position
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 -- slower to import than all the rest of --help

        output.write_line(f"{_NAME} {version(_NAME)}")
        raise typer.Exit


@app.callback(epilog=_EPILOG)
def tidegate(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")] = False,  # noqa: FBT002
) -> None:
    """From a fitted model to a governed, monitored gRPC endpoint."""
    del version


def run(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()  # closed by whoever started us
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # text from others may hold what this terminal cannot show
    code = main(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _silenced()
    except OSError as error:
        _silenced()
        code, message = _explained(error)
        sys.stderr.write(f"{_NAME}: {message}\n")
    sys.exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns its exit code. Errors become one line on stderr."""
    try:
        command = get_command(app)
        with command.make_context(_NAME, list(arguments) or ["--help"]) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        return _silenced()
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("TIDEGATE_DEBUG"):
            raise
        code, message = _explained(error)
        sys.stderr.write(f"{_NAME}: {output.clean(message)}\n")
        return code
    return errors.DONE


def _explained(error: BaseException) -> tuple[int, str]:
    """The exit code and the line for a person."""
    match error:
        case CliError() | RegistryError():
            return errors.exit_code(error), str(error)
        case typer.TyperException():
            return errors.BAD_INPUT, f"{error.format_message()} See '{_path(error)} --help'."
        case ModuleNotFoundError():
            return errors.BAD_INPUT, f"this command needs the Python package {error.name!r}: install {_NAME}[server,control-plane,training]"
        case OSError(errno=errno.ENOSPC):
            return errors.REFUSED, "cannot write the output: no space left on the device"
        case KeyboardInterrupt():
            return errors.INTERRUPTED, "interrupted"
        case _:
            what = f"{type(error).__name__}: {error}"
            return errors.INTERNAL, f"internal error, please report it ({what}); TIDEGATE_DEBUG=1 shows where"


def _path(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context else _NAME


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 -- stays open as long as the process


def _silenced() -> int:
    # The reader went away: whatever is still buffered goes nowhere, also when the interpreter flushes at its end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return errors.BROKEN_PIPE


if __name__ == "__main__":
    run()
