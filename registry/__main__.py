"""`python -m registry`: look at a registry without anything else installed. Reads only; `tidegate registry` offers the same and more."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence

from registry import verify, views
from registry.canonical import Json, JsonObject
from registry.errors import InvalidNameError, NotARegistryError, NotFoundError, RegistryError
from registry.location import open_registry
from registry.registry import Registry
from registry.times import parse_time

DONE, REFUSED, BAD_INPUT = 0, 1, 2
_BAD_INPUT = (NotFoundError, NotARegistryError, InvalidNameError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 0 done, 1 a check failed, 2 bad usage or input."""
    options = _parser().parse_args(arguments)
    try:
        code = _run(open_registry(options.registry), options)
        sys.stdout.flush()
    except RegistryError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_INPUT if isinstance(error, _BAD_INPUT) else REFUSED
    except BrokenPipeError:
        # The reader has seen enough (`| head`); what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


def _run(registry: Registry, options: argparse.Namespace) -> int:
    match options.command:
        case "verify":
            report = verify.examine(registry.store)
            _print(views.report(report), verify.describe(report), options)
            return REFUSED if report.problems else DONE
        case "list":
            models = views.models(registry)
            _print(models, map(_line, models), options)
        case "show":
            shown = _shown(registry, options.model, options.version)
            _print(shown, _lines(shown), options)
        case "log":
            registry.state(options.model)
            entries = [views.commit(entry) for entry in registry.log(options.model)]
            _print(entries, map(_entry, entries), options)
        case "at":
            shown = views.state(registry.state_at(options.model, options.time))
            _print(shown, _lines(shown), options)
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m registry", description="Look at a registry.")
    common = argparse.ArgumentParser(add_help=False)
    default = os.environ.get("TIDEGATE_REGISTRY", "./.tidegate/registry")
    common.add_argument("--registry", metavar="URL", default=default, help="file:///path or a path (default: %(default)s)")
    common.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("verify", parents=[common], help="re-read everything and name what is wrong")
    commands.add_parser("list", parents=[common], help="the models")
    show = commands.add_parser("show", parents=[common], help="a model, or one of its versions")
    show.add_argument("model")
    show.add_argument("version", nargs="?", type=int)
    commands.add_parser("log", parents=[common], help="who did what, when and why").add_argument("model")
    at = commands.add_parser("at", parents=[common], help="a model as it was at a time")
    at.add_argument("model")
    at.add_argument("time", type=parse_time, help="ISO 8601, UTC unless it says otherwise")
    return parser


def _shown(registry: Registry, model: str, version: int | None) -> JsonObject:
    return views.state(registry.state(model)) if version is None else views.version(registry, model, version)


def _print(value: Json, lines: Iterable[str], options: argparse.Namespace) -> None:
    text = json.dumps(value, indent=2).splitlines() if options.json else lines
    sys.stdout.writelines(f"{_printable(line)}\n" for line in text)


def _printable(line: str) -> str:
    # A reason may hold anything: it must not command the terminal, nor look like a line of its own.
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in line)


def _line(value: JsonObject) -> str:
    return "  ".join(f"{key}={_plain(item)}" for key, item in value.items() if item not in (None, ""))


def _lines(value: JsonObject) -> Iterable[str]:
    for key, item in value.items():
        if isinstance(item, list):
            yield f"{key}:"
            yield from (f"  {_line(part)}" for part in item if isinstance(part, dict))
        elif isinstance(item, dict):
            yield f"{key}:"
            yield from (f"  {name}: {_plain(part)}" for name, part in item.items())
        else:
            yield f"{key}: {_plain(item) or '-'}"


def _entry(value: JsonObject) -> str:
    return f"{value['seq']}  {value['time']}  {value['kind']}  {_plain(value['payload'])}  {value['actor']}: {value['reason']}"


def _plain(item: Json) -> str:
    if item is None or isinstance(item, str):
        return item or ""
    return json.dumps(item, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
