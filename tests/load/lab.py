"""What the figures share: a scratch registry with the models in it, how long a run takes, the rate the daemon reaches."""

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from registry.location import create_registry
from registry.registry import Registry
from tests.load import h2load, messages, models, programs
from tests.load.h2load import Measured, Target
from tests.load.models import ACTOR, Trained
from tests.load.programs import Served

TURNS = 5
"""How many runs are compared with as many of another server"""
LOGISTIC, BOOSTING, UNPROFILED = "logistic", "boosting", "unprofiled"


@dataclass
class Lab:
    """`room` is for everything that is written; `seconds` is one run's length; `say` tells whoever waits what is being done."""

    room: Path
    seconds: float
    say: Callable[[str], None]
    deadline: float = 0.25
    """Seconds that callers give the daemon in open loops"""
    trained: dict[str, Trained] = field(default_factory=dict)

    @cached_property
    def url(self) -> str:
        """A registry with all models in production."""
        place = str(self.room / "registry")
        registry = create_registry(place)
        self.trained = {LOGISTIC: models.logistic(), BOOSTING: models.boosting()}
        self.trained[UNPROFILED] = self.trained[LOGISTIC]
        for name, trained in self.trained.items():
            models.register(registry, name, trained, profiled=name != UNPROFILED)
            registry.promote(name, 1, to="production", actor=ACTOR, reason="to be measured")
        return place

    def registry(self, name: str) -> Registry:
        """An empty registry of its own, at `room/name`."""
        return create_registry(str(self.room / name))

    @contextmanager
    def daemon(self, **flags: str) -> Iterator[Served]:
        """The daemon on the server's core with all models, and these flags."""
        with programs.tidegate(self.room, {"registry": self.url, **flags}, LOGISTIC, BOOSTING, UNPROFILED) as served:
            yield served

    def target(self, served: Served, model: str = LOGISTIC, rows: int = 1) -> Target:
        """Requests of `rows` rows for a model; what an answer looks like is asked first."""
        message = messages.request(model, messages.rows(rows))
        return Target(served.address, message, len(programs.infer(served.address, message)))

    @cached_property
    def peak(self) -> float:
        """Requests of one row a second that the daemon answers with 128 in flight."""
        with self.daemon() as served:
            self.say("the peak")
            return statistics.median(reconciled(served, self.target(served), self.seconds).rate for _ in range(3))

    def alternate(self, ours: Target, theirs: Target, turns: int = TURNS, seconds: float = 0.0) -> tuple[float, float, float]:
        """Rates of two servers on one core that are measured turn by turn, so that what else the machine does meets both.

        A run takes `seconds`, or as long as the others. The medians of both, and the median of the ratios ours / theirs.
        """
        pairs = []
        for turn in range(turns):
            order = (ours, theirs) if turn % 2 else (theirs, ours)  # whoever is second profits from a machine that speeds up
            rates = {target: h2load.rate(target, seconds or self.seconds).rate for target in order}
            pairs.append((rates[ours], rates[theirs]))
        first, second = (statistics.median(rates) for rates in zip(*pairs, strict=True))
        return first, second, statistics.median(one / other for one, other in pairs)


def reconciled(served: Served, target: Target, seconds: float) -> Measured:
    """A run of h2load whose answers the daemon's own counters confirm.

    Raises:
        LoadError: if the daemon counted anything but as many requests, all OK.
    """
    before = served.counted("tidegate_requests_total"), served.counted("tidegate_requests_total", code="OK")
    measured = h2load.rate(target, seconds)
    after = served.counted("tidegate_requests_total"), served.counted("tidegate_requests_total", code="OK")
    counted, good = after[0] - before[0], after[1] - before[1]
    expected = measured.requests + h2load.PILOT_REQUESTS
    if not counted == good == expected:
        raise h2load.LoadError(f"h2load counts {expected} answers; the daemon {counted:.0f}, {good:.0f} of them OK")
    return measured
