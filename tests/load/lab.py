"""What the figures share: a scratch registry with the models in it, how long a run takes, the rate the daemon reaches."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from registry.location import create_registry
from registry.registry import Registry
from tests.load import loads, messages, models, programs, turns
from tests.load.growth_chart import Point
from tests.load.loads import Load, Outcome, Target
from tests.load.models import ACTOR, Trained
from tests.load.programs import Served
from tests.load.turns import Side, Turns

TURNS = 5
"""How many runs are compared with as many of another server"""
LOGISTIC, BOOSTING, UNPROFILED = "logistic", "boosting", "unprofiled"
NATIVE, GRPCIO = "native", "grpcio"


@dataclass
class Lab:
    """`room` is for everything that is written; `seconds` is one run's length; `say` tells whoever waits what is being done.

    `transport` is what the daemon is measured with.
    """

    room: Path
    seconds: float
    transport: str
    say: Callable[[str], None]
    deadline: float = 0.25
    """Seconds that callers give the daemon in open loops"""
    trained: dict[str, Trained] = field(default_factory=dict)
    grown: list[Point] = field(default_factory=list)
    """How it grows, for the chart"""

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

    @property
    def is_native(self) -> bool:
        """Whether the native transport is measured, and not the reference."""
        return self.transport == NATIVE

    def registry(self, name: str) -> Registry:
        """An empty registry of its own, at `room/name`."""
        return create_registry(str(self.room / name))

    @contextmanager
    def daemon(
        self, flags: Mapping[str, str] | None = None, *, module: str = "server", authorities: Path | None = None
    ) -> Iterator[Served]:
        """The daemon on the server's core with all models, and these flags; `module` is what stands for it."""
        given = {"registry": self.url, **(flags or {})}
        with self.started(given, LOGISTIC, BOOSTING, UNPROFILED, module=module, authorities=authorities) as served:
            yield served

    @contextmanager
    def started(
        self,
        flags: Mapping[str, str],
        *wanted: str,
        module: str = "server",
        on: Sequence[int] | None = None,
        authorities: Path | None = None,
    ) -> Iterator[Served]:
        """The daemon with these flags and the transport that is measured, once the models that are wanted are ready."""
        given = {**flags, "transport": self.transport}
        with programs.tidegate(self.room, given, *wanted, module=module, on=on, authorities=authorities) as served:
            yield served

    def target(self, served: Served, model: str = LOGISTIC, rows: int = 1) -> Target:
        """Requests of `rows` rows for a model."""
        return target(served, messages.request(model, messages.rows(rows)))

    @cached_property
    def peak(self) -> float:
        """Requests of one row a second that the daemon answers with 128 in flight."""
        with self.daemon() as served:
            self.say("the peak")
            return statistics.median(reconciled(served, self.target(served), self.seconds).rate for _ in range(3))

    def alternate(self, *sides: Side, number: int = TURNS, seconds: float = 0.0, settle: float = 0.0) -> Turns:
        """See `turns.alternate`; a run takes `seconds`, or as long as the others."""
        return turns.alternate(sides, number, seconds or self.seconds, settle)


def target(served: Served, *requests: bytes) -> Target:
    """These requests, by turns. How many bytes their answers have is asked first."""
    sizes = [len(answer) for answer in programs.answers(served, requests)]
    return Target(served.address, requests, (min(sizes), max(sizes)), authorities=served.authorities)


def reconciled(served: Served, to: Target, seconds: float) -> Outcome:
    """A closed loop whose answers the daemon's own counters confirm.

    Raises:
        LoadError: if a request was not answered OK, or the daemon counted anything but as many requests, all OK.
    """
    return loads.checked(to, confirmed(served, to, loads.Closed(seconds)))


def confirmed(served: Served, to: Target, load: Load) -> Outcome:
    """What became of this load, of which the daemon's own counters must know: see `turns.confirmed`."""
    with turns.confirmed(served) as ledger:
        outcome = loads.run(to, load)
        ledger.add(served, outcome)
    return outcome
