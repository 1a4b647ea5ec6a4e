"""`python -m tests.load [registry | daemon]`: figures of this machine, each with the bar it is held to; without a word, both.

The figures are in modules of their own. Exit code 1 if one misses its bar, 2 if one could not be measured.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import grpc

from clients.demo.programs import ProgramError
from tests.load import (
    cancelling,
    changes,
    connections,
    drift_cost,
    endurance,
    figures,
    growth,
    growth_chart,
    latency,
    observing,
    programs,
    replicas,
    swaps,
    throughput,
)
from tests.load.figures import Figure
from tests.load.lab import GRPCIO, NATIVE, Lab
from tests.load.loads import LoadError

Measure: TypeAlias = Callable[[Lab], Iterator[Figure]]

BOTH = (NATIVE, GRPCIO)
MEASURES: dict[str, tuple[Measure, Sequence[str]]] = {
    "peak": (throughput.one_row, BOTH),
    "batches": (throughput.many_rows, BOTH),
    "tls": (throughput.encrypted, (NATIVE,)),
    "alone": (connections.one_at_a_time, (NATIVE,)),
    "connections": (connections.many_connections, (NATIVE,)),
    "latency": (latency.at_seventy, BOTH),
    "overload": (latency.overload, BOTH),
    "observing": (observing.observing, BOTH),
    "drift": (drift_cost.counting, (GRPCIO,)),
    "swaps": (swaps.swapping, BOTH),
    "cancelling": (cancelling.cancelling, BOTH),
    "endurance": (endurance.endurance, (NATIVE,)),
    "starting": (changes.starting, BOTH),
    "changes": (changes.promoting, BOTH),
    "replicas": (replicas.second_replica, BOTH),
    "growth": (growth.growing, BOTH),
}
"""What is measured, and with which transports"""


# One figure that cannot be had must not take the others with it.
_FAILURES = (LoadError, ProgramError, OSError, AssertionError, grpc.RpcError, subprocess.SubprocessError)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is asked for and print it; returns the exit code."""
    given = _parser().parse_args(argv)
    code = 0
    if given.what in {"all", "registry"}:
        code = subprocess.run([sys.executable, "-m", "tests.load.registry_bench", *given.folder], check=False).returncode
    if given.what in {"all", "daemon"}:
        code = max(code, daemon(given.transport, given.only, given.seconds, given.json, write=given.write))
    return code


def daemon(transport: str, only: Sequence[str], seconds: float, json: Path | None, *, write: bool) -> int:
    """Figures of the daemon; all of them are written to `json`, if it is given, and with `write` to the page of figures."""
    os.sched_setaffinity(0, {programs.cores()[1]})  # this process is the load
    found: list[Figure] = []
    labs: list[Lab] = []
    failed = False
    for measured in BOTH if transport == "both" else (transport,):
        with tempfile.TemporaryDirectory() as room:
            lab = Lab(Path(room), seconds, measured, _say)
            names = [name for name in only if measured in MEASURES[name][1]]
            failed |= not min([_measured(lab, name, found) for name in names], default=True)
            labs.append(lab)
    figures.show(found)
    if json is not None:
        figures.write_json(found, json)
    if write:
        figures.write_page(found)
    if write and (grown := [point for lab in labs for point in lab.grown]):
        growth_chart.write_page(grown)
    return 2 if failed else int(any(figure.met is False for figure in found))


def _measured(lab: Lab, name: str, found: list[Figure]) -> bool:
    """Whether it could be measured; what was, is added to what has been found."""
    try:
        found.extend(replace(figure, transport=lab.transport) for figure in MEASURES[name][0](lab))
    except _FAILURES as error:
        print(f"{name} could not be measured with {lab.transport}: {error}", file=sys.stderr)
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description="Figures of this machine, each with the bar it is held to.")
    what = parser.add_subparsers(dest="what", metavar="registry | daemon")
    everything = {"folder": [], "transport": "both", "only": tuple(MEASURES), "seconds": 1.0, "json": None, "write": False}
    parser.set_defaults(what="all", **everything)
    registry = what.add_parser("registry", help="the registry's alone")
    registry.add_argument("folder", nargs="*", help="on the disk that is meant, instead of a temporary one")
    ours = what.add_parser("daemon", help="the daemon's alone")
    ours.add_argument("--transport", choices=(*BOTH, "both"), help="what carries the calls (default both)")
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
