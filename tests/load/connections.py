"""What connections cost: one with one request at a time, and 128 of them with one each, beside the bare grpcio server."""

from collections.abc import Iterator
from dataclasses import replace

from tests.load import figures, programs
from tests.load.figures import Figure
from tests.load.lab import Lab
from tests.load.turns import Side, Turns

MANY = 128
TURNS = 10


def one_at_a_time(lab: Lab) -> Iterator[Figure]:
    """One connection that asks again when it has its answer."""
    turns = _beside_echo(lab, 1)
    ours, theirs = (1e6 * turns.latency(side) for side in (0, 1))
    yield figures.under("one connection, one request at a time, mean latency", ours, "us", 150, _spread(turns))
    yield figures.under("  in multiples of the bare grpcio server's", ours / theirs, "x", 1, f"{theirs:.0f} us")


def many_connections(lab: Lab) -> Iterator[Figure]:
    """A connection for every request in flight."""
    turns = _beside_echo(lab, MANY)
    yield turns.figure(f"{MANY} connections, one request in flight on each", 0)
    note = f"{turns.rate(1):,.0f} /s"
    yield turns.multiple(figures.at_least("  multiple of the bare grpcio server", turns.rates(0, 1).median, "x", 8, note), 0, 1)


def _beside_echo(lab: Lab, number: int) -> Turns:
    lab.say(f"{number} connections with one request each, beside the bare grpcio server")
    with lab.daemon() as served:
        ours = replace(lab.target(served), connections=number, in_flight=number)
        with programs.echo(lab.room, ours.answer_bytes[0]) as echo:
            return lab.alternate(Side(served, ours), Side(echo, replace(ours, address=echo.address)), number=TURNS, seconds=lab.seconds / 2)


def _spread(turns: Turns) -> str:
    """The last turn's."""
    seen = turns.sides[0][-1].outcome.accepted
    return "the last turn: " + ", ".join(f"p{share:g} {1e6 * seen.percentile(share):.0f} us" for share in (50.0, 99.0, 99.9))
