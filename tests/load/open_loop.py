"""Load that does not wait for answers, so that a server that stalls cannot slow it down and hide its stall.

Requests are sent at the times of a Poisson process, and the latency of each counts from the time it was meant to be sent. Every latency is
kept, so percentiles are exact. Deadlines are the callers': what could not be sent before its deadline is held back.
"""

import gc
import select
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np
from numpy.typing import NDArray

from tests.load.http2 import REFUSED_STREAM, Connection, Template

Seconds = NDArray[np.float64]

HELD_BACK, UNANSWERED = -2, -1
"""What stands for the gRPC status of a request that was not sent, and of one that was never answered"""

GRACE_SECONDS = 1.0
"""How long after the last deadline an answer is still waited for"""

HELD_SECONDS = 0.001
"""How soon a request for which there was no room is tried again"""

REFUSED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
_UNAVAILABLE = 14
_NAMES = {HELD_BACK: "HELD_BACK", UNANSWERED: "UNANSWERED", **{code.value[0]: code.name for code in grpc.StatusCode}}


@dataclass(frozen=True)
class Load:
    """`rate` requests a second on average for `seconds`; each is worth nothing `deadline` seconds after it was meant to be sent."""

    rate: float
    seconds: float
    deadline: float
    connections: int = 4
    seed: int = 1

    def schedule(self) -> Seconds:
        """When each request is meant to be sent, in seconds from the start, ascending."""
        expected = self.rate * self.seconds
        gaps = np.random.default_rng(self.seed).exponential(1 / self.rate, int(expected + 8 * expected**0.5) + 8)
        times = gaps.cumsum()
        return times[times < self.seconds]


@dataclass(frozen=True)
class Outcome:
    """What became of every request: when it was to be sent, was sent and answered [n] in seconds (NaN: never), its status [n].

    `bodies` counts the answers with status OK by their gRPC-framed bytes.
    """

    load: Load
    intended: Seconds
    sent: Seconds
    answered: Seconds
    status: NDArray[np.int8]
    bodies: Counter[bytes]
    sent_again: int
    """Times that a stream was refused unseen, which a client answers by sending the request again"""

    @property
    def by_status(self) -> dict[str, int]:
        """How many requests ended with each gRPC status, HELD_BACK or UNANSWERED."""
        return {_NAMES[int(code)]: int(number) for code, number in zip(*np.unique(self.status, return_counts=True), strict=True)}

    @property
    def ok(self) -> int:
        """Requests answered with status OK."""
        return int((self.status == 0).sum())

    @property
    def accepted(self) -> Seconds:
        """Latencies of the requests answered OK, from when they were meant to be sent."""
        latencies: Seconds = (self.answered - self.intended)[self.status == 0]
        return latencies

    @property
    def refused(self) -> Seconds:
        """How long the server took to refuse each of those it refused, from when it was really sent."""
        codes = [code.value[0] for code in REFUSED]
        return (self.answered - self.sent)[np.isin(self.status, codes)]

    @property
    def lateness(self) -> Seconds:
        """How much later than meant requests were sent: the generator's own part in the latencies."""
        late: Seconds = (self.sent - self.intended)[self.status != HELD_BACK]
        return late

    @property
    def goodput(self) -> float:
        """Answers a second that were OK and came before their deadline."""
        return float((self.accepted <= self.load.deadline).sum()) / self.load.seconds


def percentiles(latencies: Seconds) -> dict[float, float]:
    """The latency that each share of `PERCENTILES` does not exceed, itself one that was seen; NaN where there are none."""
    if not latencies.size:
        return dict.fromkeys(PERCENTILES, float("nan"))
    return dict(zip(PERCENTILES, map(float, np.percentile(latencies, PERCENTILES, method="higher")), strict=True))


def run(address: str, request: Template, load: Load) -> Outcome:
    """Put `load` on the server at HOST:PORT and wait for its answers."""
    connections = [Connection(address, request) for _ in range(load.connections)]
    try:
        with _no_collection():
            return _Run(connections, load).outcome()
    finally:
        for connection in connections:
            connection.close()


@contextmanager
def _no_collection() -> Iterator[None]:
    # A pause of the collector in here would be taken for one of the server.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@dataclass
class _Run:
    connections: list[Connection]
    load: Load
    head: int = 0
    """The first request that was never sent and is not held back"""
    waiting: int = 0
    """Requests sent and not answered"""
    sent_again: int = 0
    bodies: Counter[bytes] = field(default_factory=Counter)
    again: list[int] = field(default_factory=list)
    """Requests to send a second time"""

    def __post_init__(self) -> None:
        self.intended = self.load.schedule()
        self.sent = np.full_like(self.intended, np.nan)
        self.answered = np.full_like(self.intended, np.nan)
        self.status = np.full(len(self.intended), HELD_BACK, np.int8)
        self.places: list[list[int]] = [[] for _ in self.connections]

    def outcome(self) -> Outcome:
        start = time.perf_counter()
        end = self.load.seconds + self.load.deadline + GRACE_SECONDS
        while (now := time.perf_counter() - start) < end and (self.head < len(self.intended) or self.waiting or self.again):
            due = int(np.searchsorted(self.intended, now, side="right"))
            expired = int(np.searchsorted(self.intended, now - self.load.deadline))
            self.head = max(self.head, expired)
            self.again = [place for place in self.again if place >= expired]
            if due > self.head or self.again:
                self._send(np.array([*self.again, *range(self.head, due)]), now)
            self._wait(now, due)
            self._receive(start)
        return Outcome(self.load, self.intended, self.sent, self.answered, self.status, self.bodies, self.sent_again)

    def _send(self, pending: NDArray[np.int64], now: float) -> None:
        """Spread what is due over the connections, beginning with another one each time."""
        taken, turns = 0, len(self.connections)
        for turn in range(turns):
            connection = (self.head + turn) % turns
            chosen = pending[taken : taken + min(-(-(len(pending) - taken) // (turns - turn)), self.connections[connection].room)]
            if chosen.size:
                self.sent[chosen], self.status[chosen] = now, UNANSWERED
                self.places[connection].extend(chosen.tolist())
                self.connections[connection].send(self.intended[chosen] + self.load.deadline - now)
                taken += len(chosen)
        self.waiting += taken
        old = min(taken, len(self.again))
        del self.again[:old]
        self.head += taken - old

    def _wait(self, now: float, due: int) -> None:
        """Until the next request is due, or the server can be read or, where bytes wait, written to."""
        seconds = self.intended[due] - now if due < len(self.intended) else self.load.deadline
        if due > self.head or self.again:  # no room: it may come with any answer, and what waits for it expires
            seconds = min(seconds, HELD_SECONDS)
        alive = [connection for connection in self.connections if not connection.closed]
        blocked = [connection for connection in alive if connection.blocked]
        # Not a selector of epoll, whose timeouts are whole milliseconds.
        self.readable, writable, _ = select.select(alive, blocked, [], max(0.0, seconds))
        for connection in writable:
            connection.flush()

    def _receive(self, start: float) -> None:
        now = time.perf_counter() - start
        for places, connection in zip(self.places, self.connections, strict=True):
            if connection in self.readable:
                for number, status, body in connection.receive():
                    self._answered(places[number], status, body, now)
                connection.flush()

    def _answered(self, place: int, status: int, body: bytes, now: float) -> None:
        self.waiting -= 1
        if status == REFUSED_STREAM:
            self.again.append(place)
            self.sent_again += 1
            status = _UNAVAILABLE
        self.answered[place], self.status[place] = now, status
        if status == 0:
            self.bodies[body] += 1
