"""How long callers wait when they do not wait for one another: at 70 % of the peak, and at many times what the daemon can answer."""

from collections.abc import Iterator
from dataclasses import replace

from tests.load import figures
from tests.load.figures import Figure
from tests.load.lab import Lab, confirmed
from tests.load.loads import PERCENTILES, Latencies, Open, Outcome
from tests.load.programs import Served

SHARE_OF_PEAK = 0.7
OVERLOADS = (2, 5, 10)
CONNECTIONS = 8
CROWD = 64
"""Connections of the worst overload once more: each has an eighth of the requests that are answered in one go"""
REFUSAL_SECONDS = 0.005


def at_seventy(lab: Lab) -> Iterator[Figure]:
    """A Poisson process at 70 % of the peak: nobody fails, and the slowest of a hundred waits not much longer than most."""
    lab.say("open loop at 70 % of the peak")
    rate = SHARE_OF_PEAK * lab.peak
    with lab.daemon() as served:
        outcome = _load(lab, served, rate, CONNECTIONS)
    seen = outcome.accepted
    p50, p99 = (1e3 * seen.percentile(share) for share in (50.0, 99.0))
    yield Figure(f"open loop, {rate:,.0f} /s (70 % of peak), p50", p50, "ms", note=_lateness(outcome))
    if lab.is_native:
        yield figures.under("  p99", p99, "ms", 3, _spread(seen))
    else:
        yield figures.under("  p99, in multiples of the p50", p99 / p50, "x", 5, _spread(seen))
    yield figures.none_of("  failed", outcome.offered - outcome.ok, outcome.by_status)


def overload(lab: Lab) -> Iterator[Figure]:
    """Far more than the peak: as much is answered in time as ever, and who is refused learns it at once."""
    with lab.daemon() as served:
        for times in OVERLOADS:
            lab.say(f"open loop at {times} times the peak")
            outcome = _load(lab, served, times * lab.peak, CONNECTIONS)
            accepted, refused = outcome.accepted.percentile(99.0), outcome.refused.percentile(99.0)
            note = f"{outcome.offered:,} offered, {outcome.sent:,} sent; {outcome.by_status}; {_busy(outcome)}"
            yield figures.at_least(f"{times}x overload, goodput of peak", 100 * outcome.goodput / lab.peak, "%", 90, note)
            deadline = f"{1e3 * lab.deadline:g} ms"
            yield Figure("  p99 of the answers", 1e3 * accepted, "ms", deadline, accepted <= lab.deadline, _spread(outcome.accepted))
            yield figures.under("  p99 of the refusals", 1e3 * refused, "ms", 1e3 * REFUSAL_SECONDS, _spread(outcome.refused))
        lab.say(f"the same on {CROWD} connections")
        outcome = _load(lab, served, OVERLOADS[-1] * lab.peak, CROWD)
    yield Figure(
        f"{OVERLOADS[-1]}x overload on {CROWD} connections, goodput of peak", 100 * outcome.goodput / lab.peak, "%", note=_busy(outcome)
    )
    yield Figure("  p99 of the answers", 1e3 * outcome.accepted.percentile(99.0), "ms", note=_spread(outcome.accepted))
    yield Figure("  p99 of the refusals", 1e3 * outcome.refused.percentile(99.0), "ms", note=_spread(outcome.refused))


def _load(lab: Lab, served: Served, rate: float, connections: int) -> Outcome:
    target = replace(lab.target(served), connections=connections)
    confirmed(served, target, Open(0.3 * lab.peak, 0.5, lab.deadline))  # to be warm
    return confirmed(served, target, Open(rate, 2 * lab.seconds, lab.deadline))


def _spread(seen: Latencies) -> str:
    if not seen.seen:
        return "there were none"
    return ", ".join(f"{'most' if share == 100 else f'p{share:g}'} {1e3 * seen.percentile(share):.2f} ms" for share in PERCENTILES)


def _lateness(outcome: Outcome) -> str:
    return f"the generator was late by {1e3 * outcome.lateness.percentile(99.0):.2f} ms at p99"


def _busy(outcome: Outcome) -> str:
    return f"the generator took {100 * outcome.share_of_core:.0f} % of its core"
