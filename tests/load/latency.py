"""How long callers wait when they do not wait for one another: at 70 % of the peak, and at many times what the daemon can answer."""

import math
from collections.abc import Iterator

from tests.load import figures, http2, messages, open_loop
from tests.load.figures import Figure
from tests.load.lab import LOGISTIC, Lab
from tests.load.open_loop import Load, Outcome, percentiles
from tests.load.programs import Served

SHARE_OF_PEAK = 0.7
OVERLOADS = (2, 5, 10)
CONNECTIONS = 8
REFUSAL_SECONDS = 0.005


def at_seventy(lab: Lab) -> Iterator[Figure]:
    """A Poisson process at 70 % of the peak: nobody fails, and the slowest of a hundred waits not much longer than most."""
    lab.say("open loop at 70 % of the peak")
    with lab.daemon() as served:
        outcome = _load(lab, served, SHARE_OF_PEAK)
    seen = percentiles(outcome.accepted)
    yield Figure(f"open loop, {outcome.load.rate:,.0f} /s (70 % of peak), p50", 1e3 * seen[50.0], "ms", note=_lateness(outcome))
    yield figures.under("  p99, in multiples of the p50", seen[99.0] / seen[50.0], "x", 5, _spread(seen))
    yield figures.none_of("  failed", len(outcome.status) - outcome.ok, _statuses(outcome))


def overload(lab: Lab) -> Iterator[Figure]:
    """Far more than the peak: as much is answered in time as ever, and who is refused learns it at once."""
    with lab.daemon() as served:
        for times in OVERLOADS:
            lab.say(f"open loop at {times} times the peak")
            outcome = _load(lab, served, times)
            accepted, refused = percentiles(outcome.accepted), percentiles(outcome.refused)
            sent = (outcome.status != open_loop.HELD_BACK).sum()
            note = f"{len(outcome.status):,} offered, {sent:,} sent; {_statuses(outcome)}"
            yield figures.at_least(f"{times}x overload, goodput of peak", 100 * outcome.goodput / lab.peak, "%", 90, note)
            deadline = f"{1e3 * lab.deadline:g} ms"
            yield Figure("  p99 of the answers", 1e3 * accepted[99.0], "ms", deadline, accepted[99.0] <= lab.deadline, _spread(accepted))
            yield figures.under("  p99 of the refusals", 1e3 * refused[99.0], "ms", 1e3 * REFUSAL_SECONDS, _spread(refused))


def _load(lab: Lab, served: Served, times_peak: float) -> Outcome:
    request = http2.template(messages.PATH, messages.request(LOGISTIC, messages.rows(1)))
    open_loop.run(served.address, request, Load(0.3 * lab.peak, 0.5, lab.deadline, CONNECTIONS))  # to be warm
    return open_loop.run(served.address, request, Load(times_peak * lab.peak, 2 * lab.seconds, lab.deadline, CONNECTIONS))


def _spread(seen: dict[float, float]) -> str:
    if math.isnan(seen[50.0]):
        return "there were none"
    return ", ".join(f"{'most' if share == 100 else f'p{share:g}'} {1e3 * seconds:.2f} ms" for share, seconds in seen.items())


def _lateness(outcome: Outcome) -> str:
    return f"the generator was late by {1e3 * percentiles(outcome.lateness)[99.0]:.2f} ms at p99"


def _statuses(outcome: Outcome) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in outcome.by_status.items())
