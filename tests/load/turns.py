"""Servers compared: measured turn by turn on one core, so that whatever else the machine does meets all of them; and how sure that is."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tests.load import loads
from tests.load.figures import Figure
from tests.load.loads import LoadError, Outcome, Target
from tests.load.programs import Served

CONFIRM_SECONDS = 2.0
SETTLED_SECONDS = 0.1


@dataclass(frozen=True)
class Side:
    """A server in a comparison, what is sent to it, and what else is done in its turns, if anything."""

    served: Served
    target: Target
    meanwhile: Callable[[], object] | None = None


@dataclass(frozen=True)
class Turn:
    """One side's run, and the processor time that its server took until it had nothing left to do, in seconds a request."""

    outcome: Outcome
    cost: float


@dataclass(frozen=True)
class Ratio:
    """The median of the turns' ratios, and the interval that has it in 95 of 100 cases."""

    median: float
    low: float
    high: float


@dataclass
class Turns:
    """All turns, a list for each side in the order of the sides."""

    sides: list[list[Turn]]

    def rate(self, side: int) -> float:
        """The median of its rates."""
        return statistics.median(turn.outcome.rate for turn in self.sides[side])

    def latency(self, side: int) -> float:
        """The median of its mean latencies, in seconds."""
        return statistics.median(turn.outcome.accepted.mean for turn in self.sides[side])

    def is_floor(self, side: int) -> bool:
        """Whether the generator was the limit in most of its turns."""
        return statistics.median(turn.outcome.share_of_core for turn in self.sides[side]) > loads.BUSY

    def rates(self, side: int, other: int) -> Ratio:
        """Its rate in multiples of the other's."""
        return ratio([(one.outcome.rate, two.outcome.rate) for one, two in zip(self.sides[side], self.sides[other], strict=True)])

    def costs(self, side: int, other: int, together: int = 1) -> Ratio:
        """Its processor time for a request in multiples of the other's, of so many turns together each time."""
        one, two = (_sums([turn.cost for turn in self.sides[place]], together) for place in (side, other))
        return ratio(list(zip(one, two, strict=True)))

    def figure(self, what: str, side: int, note: str = "") -> Figure:
        """Its rate, with what is to be said of it where the generator was the limit."""
        is_floor = self.is_floor(side)
        said = "the load's core was the limit" if is_floor else ""
        return Figure(what, self.rate(side), "/s", note="; ".join(filter(None, (note, said))), is_floor=is_floor)

    def multiple(self, figure: Figure, side: int, other: int) -> Figure:
        """A figure of one rate in multiples of another, which is a floor, or must say that it is not one, as they are."""
        if self.is_floor(other):
            return replace(figure, note=f"{figure.note}; of what the load could ask of the other".strip("; "))
        return replace(figure, is_floor=self.is_floor(side))


def _sums(values: Sequence[float], together: int) -> list[float]:
    return [sum(values[first : first + together]) for first in range(0, len(values), together)]


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """The median of the ratios of pairs, and its interval by order statistics."""
    ratios = sorted(one / two for one, two in pairs)
    away = 0.98 * len(ratios) ** 0.5
    places = (int(len(ratios) / 2 - away), int(len(ratios) / 2 + away))
    low, high = (ratios[min(max(place, 0), len(ratios) - 1)] for place in places)
    return Ratio(statistics.median(ratios), low, high)


def alternate(sides: Sequence[Side], turns: int, seconds: float, settle: float = 0.0) -> Turns:
    """Runs of `seconds` by turns. After each the server has `settle` seconds to finish what it has put off, which counts as its cost.

    Raises:
        LoadError: if a request was not answered as it should be, or a daemon did not count what was sent to it.
    """
    taken: list[list[Turn]] = [[] for _ in sides]
    with confirmed(*(side.served for side in sides)) as ledger:
        for turn in range(turns):
            order = list(range(len(sides)))
            for place in order[turn % len(order) :] + order[: turn % len(order)]:  # whoever is later profits from a machine that speeds up
                taken[place].append(_turn(sides[place], seconds, settle))
                ledger.add(sides[place].served, taken[place][-1].outcome)
    return Turns(taken)


def _turn(side: Side, seconds: float, settle: float) -> Turn:
    before = side.served.cpu_seconds
    with loads.running(side.target, loads.Closed(seconds)) as run:
        if side.meanwhile is not None:
            side.meanwhile()
    time.sleep(settle)
    outcome = loads.checked(side.target, run.outcome)
    return Turn(outcome, (side.served.cpu_seconds - before) / outcome.sent)


@dataclass
class Ledger:
    """What was sent to which daemon and answered OK, by address."""

    entered: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, served: Served, outcome: Outcome) -> None:
        """Enter a run."""
        sent, good = self.entered.get(served.address, (0, 0))
        self.entered[served.address] = sent + outcome.sent, good + outcome.ok


@contextlib.contextmanager
def confirmed(*servers: Served) -> Iterator[Ledger]:
    """The daemons among these servers must count what is entered meanwhile.

    No fewer OK answers than have come, and no more requests than were sent: where all were answered OK, exactly those. What callers gave
    up, or a deadline cut off, the daemon may have answered, or never have seen.

    Raises:
        LoadError: if one does not.
    """
    daemons = {served.address: served for served in servers if served.metrics}
    before = {address: _settled(served) for address, served in daemons.items()}
    ledger = Ledger()
    yield ledger
    for address, served in daemons.items():
        _confirm(served, before[address], *ledger.entered.get(address, (0, 0)))


def _counted(served: Served) -> tuple[float, float]:
    """Requests that a daemon has counted, and those of them that were OK."""
    return served.counted("tidegate_requests_total"), served.counted("tidegate_requests_total", code="OK")


def _settled(served: Served) -> tuple[float, float]:
    """The same once they no longer change: what was given up in a run before may still be worked on."""
    deadline = time.monotonic() + CONFIRM_SECONDS
    seen = _counted(served)
    while time.monotonic() < deadline:
        time.sleep(SETTLED_SECONDS)
        before, seen = seen, _counted(served)
        if before == seen:
            break
    return seen


def _confirm(served: Served, before: tuple[float, float], sent: int, good: int) -> None:
    deadline = time.monotonic() + CONFIRM_SECONDS
    while True:
        all_counted, good_counted = (now - then for now, then in zip(_counted(served), before, strict=True))
        if good <= good_counted <= all_counted <= sent:
            return
        if time.monotonic() > deadline:
            raise LoadError(
                f"{sent:,} requests were sent and {good:,} answered OK; the daemon counts {all_counted:,.0f} and {good_counted:,.0f}"
            )
        time.sleep(0.05)
