"""How long callers wait when they do not wait for one another: at 70 % of the peak, and at many times what the daemon can answer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from tests.load import figures, programs
from tests.load.figures import Figure
from tests.load.lab import Lab, confirmed, reconciled
from tests.load.loads import PERCENTILES, Latencies, Open, Outcome, Target
from tests.load.programs import Served

SHARE_OF_PEAK = 0.7
OVERLOADS = (2, 5, 10)
TURNS = 3
"""How often each is measured, right after the peak it is a multiple of, as the machine's speed changes; the middle one counts"""
TURNS_BELOW_PEAK = 7
"""More where nothing is refused: the p99 of a second tells as much of the machine, and the first is on memory that it has yet to give"""
CONNECTIONS = 8
CROWD = 64
"""Connections of the worst overload once more: each has an eighth of the requests that are answered in one go"""
REFUSAL_SECONDS = 0.005


@dataclass(frozen=True)
class _Turn:
    """The peak, in requests a second, and what became of a load that is a multiple of it."""

    peak: float
    outcome: Outcome


def at_seventy(lab: Lab) -> Iterator[Figure]:
    """A Poisson process at 70 % of the peak: nobody fails, and the slowest of a hundred waits not much longer than most."""
    lab.say("open loop at 70 % of the peak")
    with lab.daemon() as served:
        asked = lab.target(served)
        turns = _turns(lab, served, asked, SHARE_OF_PEAK, CONNECTIONS, TURNS_BELOW_PEAK)
    middle = _middle(turns, _p99)
    seen = middle.outcome.accepted
    p50, p99 = (1e3 * seen.percentile(share) for share in (50.0, 99.0))
    what = f"open loop, {SHARE_OF_PEAK * middle.peak:,.0f} /s (70 % of peak), p50"
    yield Figure(what, p50, "ms", note=_lateness(middle.outcome))
    note = f"{_spread(seen)}; p99 of all turns {_each(turns, _p99)}"
    if lab.is_native:
        yield figures.under("  p99", p99, "ms", 3, note)
    else:
        yield figures.under("  p99, in multiples of the p50", p99 / p50, "x", 5, note)
    failed = sum(turn.outcome.offered - turn.outcome.ok for turn in turns)
    yield figures.none_of("  failed", failed, "; ".join(turn.outcome.by_status for turn in turns))
    if lab.is_native:
        yield _bare(lab, asked)


def _bare(lab: Lab, asked: Target) -> Figure:
    """The same of a server that only echoes: what is left to one that never has to think, on this machine as it is."""
    with programs.bare_http2(lab.room, asked.answer_bytes[0]) as bare:
        turns = _turns(lab, bare, replace(asked, address=bare.address), SHARE_OF_PEAK, CONNECTIONS, TURNS_BELOW_PEAK)
    middle = _middle(turns, _p99)
    what = f"  p99 of a bare HTTP/2 server in Rust at {SHARE_OF_PEAK * middle.peak:,.0f} /s, 70 % of its own peak"
    return Figure(what, _p99(middle), "ms", note=f"p99 of all turns {_each(turns, _p99)}")


def overload(lab: Lab) -> Iterator[Figure]:
    """Far more than the peak: as much is answered in time as ever, and who is refused learns it at once."""
    deadline = f"{1e3 * lab.deadline:g} ms"
    with lab.daemon() as served:
        asked = lab.target(served)
        for times in OVERLOADS:
            lab.say(f"open loop at {times} times the peak")
            turns = _turns(lab, served, asked, times, CONNECTIONS)
            middle = _middle(turns, _goodput)
            outcome = middle.outcome
            accepted, refused = outcome.accepted.percentile(99.0), outcome.refused.percentile(99.0)
            each = _each(turns, _goodput)
            note = f"of {middle.peak:,.0f} /s; all turns {each}; {outcome.offered:,} offered, {outcome.sent:,} sent; {outcome.by_status}"
            yield figures.at_least(f"{times}x overload, goodput of peak", _goodput(middle), "%", 90, f"{note}; {_busy(outcome)}")
            yield Figure("  p99 of the answers", 1e3 * accepted, "ms", deadline, accepted <= lab.deadline, _spread(outcome.accepted))
            yield figures.under("  p99 of the refusals", 1e3 * refused, "ms", 1e3 * REFUSAL_SECONDS, _spread(outcome.refused))
        lab.say(f"the same on {CROWD} connections")
        crowd = _middle(_turns(lab, served, asked, OVERLOADS[-1], CROWD), _goodput)
    outcome = crowd.outcome
    yield Figure(f"{OVERLOADS[-1]}x overload on {CROWD} connections, goodput of peak", _goodput(crowd), "%", note=_busy(outcome))
    yield Figure("  p99 of the answers", 1e3 * outcome.accepted.percentile(99.0), "ms", note=_spread(outcome.accepted))
    yield Figure("  p99 of the refusals", 1e3 * outcome.refused.percentile(99.0), "ms", note=_spread(outcome.refused))


def _turns(lab: Lab, served: Served, asked: Target, share: float, connections: int, number: int = TURNS) -> list[_Turn]:
    turns = []
    for _ in range(number):
        peak = reconciled(served, asked, lab.seconds / 2).rate
        load = Open(share * peak, lab.seconds, lab.deadline)
        turns.append(_Turn(peak, confirmed(served, replace(asked, connections=connections), load)))
    return turns


def _middle(turns: Sequence[_Turn], value: Callable[[_Turn], float]) -> _Turn:
    return sorted(turns, key=value)[len(turns) // 2]


def _p99(turn: _Turn) -> float:
    """In ms."""
    return 1e3 * turn.outcome.accepted.percentile(99.0)


def _goodput(turn: _Turn) -> float:
    """In percent of the peak."""
    return 100 * turn.outcome.goodput / turn.peak


def _each(turns: Sequence[_Turn], value: Callable[[_Turn], float]) -> str:
    return ", ".join(f"{value(turn):.3g}" for turn in turns)


def _spread(seen: Latencies) -> str:
    if not seen.seen:
        return "there were none"
    return ", ".join(f"{'most' if share == 100 else f'p{share:g}'} {1e3 * seen.percentile(share):.2f} ms" for share in PERCENTILES)


def _lateness(outcome: Outcome) -> str:
    return f"the generator was late by {1e3 * outcome.lateness.percentile(99.0):.2f} ms at p99"


def _busy(outcome: Outcome) -> str:
    return f"the generator took {100 * outcome.share_of_core:.0f} % of its core"
