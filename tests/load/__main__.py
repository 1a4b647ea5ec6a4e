"""`python -m tests.load [registry | daemon]`: figures of this machine, each with the bar it is held to; without a word, both.

The figures are in modules of their own. Exit code 1 if one misses its bar, 2 if one could not be measured.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import grpc

from clients.demo.programs import ProgramError
from tests.load import changes, drift_cost, figures, latency, observing, programs, replicas, swaps, throughput
from tests.load.figures import Figure
from tests.load.h2load import LoadError
from tests.load.http2 import UnsupportedError
from tests.load.lab import Lab

Measure: TypeAlias = Callable[[Lab], Iterator[Figure]]

MEASURES: dict[str, Measure] = {
    "peak": throughput.one_row,
    "batches": throughput.many_rows,
    "latency": latency.at_seventy,
    "overload": latency.overload,
    "observing": observing.observing,
    "drift": drift_cost.counting,
    "swaps": swaps.swapping,
    "starting": changes.starting,
    "changes": changes.promoting,
    "replicas": replicas.second_replica,
}


# One figure that cannot be had must not take the others with it.
_FAILURES = (LoadError, ProgramError, UnsupportedError, OSError, AssertionError, grpc.RpcError, subprocess.SubprocessError)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for and print it; returns the exit code."""
    given = _parser().parse_args(argv)
    code = 0
    if given.what in {"all", "registry"}:
        code = subprocess.run([sys.executable, "-m", "tests.load.registry_bench", *given.folder], check=False).returncode
    if given.what in {"all", "daemon"}:
        code = max(code, daemon(given.only, given.seconds, given.json, write=given.write))
    return code


def daemon(only: Sequence[str], seconds: float, json: Path | None, *, write: bool) -> int:
    """Figures of the daemon; all of them are written to `json`, if it is given, and with `write` to the page of figures."""
    os.sched_setaffinity(0, {programs.cores()[1]})  # this process is the load
    found: list[Figure] = []
    failed = False
    with tempfile.TemporaryDirectory() as room:
        lab = Lab(Path(room), seconds, _say)
        for name in only:
            try:
                found += MEASURES[name](lab)
            except _FAILURES as error:
                print(f"{name} could not be measured: {error}", file=sys.stderr)
                failed = True
    figures.show(found)
    if json is not None:
        figures.write_json(found, json)
    if write:
        figures.write_page(found)
    return 2 if failed else int(any(figure.met is False for figure in found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description="Figures of this machine, each with the bar it is held to.")
    what = parser.add_subparsers(dest="what", metavar="registry | daemon")
    everything = {"folder": [], "only": tuple(MEASURES), "seconds": 1.0, "json": None, "write": False}
    parser.set_defaults(what="all", **everything)
    registry = what.add_parser("registry", help="the registry's alone")
    registry.add_argument("folder", nargs="*", help="on the disk that is meant, instead of a temporary one")
    ours = what.add_parser("daemon", help="the daemon's alone")
    ours.add_argument("--only", type=_names, help=f"some of {','.join(MEASURES)}")
    ours.add_argument("--seconds", type=float, help="length of one run (default 1)")
    ours.add_argument("--json", type=Path, metavar="FILE", help="write them there too")
    ours.add_argument("--write", action="store_true", help="put them into docs/performance.md, in place of all that stand there")
    ours.set_defaults(**everything)
    return parser


def _say(what: str) -> None:
    # Lines, not a spinner: a thread that redraws would stand in the way of the load that this process is.
    print(f"{what} ...", file=sys.stderr, flush=True)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in MEASURES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(MEASURES)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
