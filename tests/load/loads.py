"""Puts load on a server with the generator that is built from `generator/`, and says what became of the requests.

In a closed loop so many requests are unanswered at any time: it tells what a server can do. In an open loop requests are sent at the times
of a Poisson process, so that a server that stalls cannot slow it down and hide its stall: it tells how long callers wait.
"""

import contextlib
import json
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from tests.load.messages import PATH, framed
from tests.load.programs import GENERATOR, cores, on_cores

RUN_SECONDS = 300.0
BUSY = 0.95
"""A generator whose core is busier than this may be what limits the rate"""
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class LoadError(Exception):
    """The generator is missing, or its requests were not all answered as they should be: a rate of them would mean nothing."""


@dataclass(frozen=True)
class Target:
    """What is sent where: `messages` take turns. An OK answer has at least and at most so many bytes.

    `in_flight` counts on all connections together. With `authorities`, a file of PEM, TLS is spoken.
    """

    address: str
    messages: tuple[bytes, ...]
    answer_bytes: tuple[int, int]
    connections: int = 4
    in_flight: int = 128
    authorities: Path | None = None


@dataclass(frozen=True)
class Closed:
    """So many requests unanswered for `seconds`, after a warm-up that does not count, or until `requests` have been sent.

    Up to `bodies` different answers are told apart. A share may be `cancelled`, each at any time `cancel_within` so many seconds.
    """

    seconds: float = 1.0
    warm_up: float = 0.1
    requests: int | None = None
    bodies: int = 0
    cancelled: float = 0.0
    cancel_within: float = 0.0
    seed: int = 1


@dataclass(frozen=True)
class Open:
    """`rate` requests a second on average for `seconds`; each is worth nothing `deadline` seconds after it was meant to be sent."""

    rate: float
    seconds: float
    deadline: float
    bodies: int = 0
    seed: int = 1


Load: TypeAlias = Closed | Open


@dataclass(frozen=True)
class Latencies:
    """Seconds, ascending, each with how many were seen; told to 0.2 %."""

    seen: Sequence[tuple[float, int]]

    @property
    def number(self) -> int:
        """How many."""
        return sum(count for _, count in self.seen)

    @property
    def mean(self) -> float:
        """NaN where there are none."""
        return sum(seconds * count for seconds, count in self.seen) / self.number if self.seen else float("nan")

    def percentile(self, share: float) -> float:
        """What that share, in percent, does not exceed; NaN where there are none."""
        left = self.number * share / 100
        for seconds, count in self.seen:
            left -= count
            if left <= 0:
                return seconds
        return float("nan")


@dataclass(frozen=True)
class Outcome:
    """What became of the requests.

    `statuses`, `sent` and the like count all of them. In a closed loop `measured` and `accepted` leave out what its warm-up answered.
    """

    offered: int
    sent: int
    sent_again: int
    """Times that a stream was refused unseen, which a client answers by sending the request again"""
    held_back: int
    """Requests that could not be sent before their deadline, as the server allows only so many at once"""
    unanswered: int
    cancelled: int
    statuses: Mapping[str, int]
    measured: int
    within: int
    """Those measured that were OK before their deadline"""
    seconds: float
    cpu_seconds: float
    """What the generator itself took of its core in that time"""
    shortest: int
    longest: int
    """Bytes of OK answers, gRPC's head included"""
    accepted: Latencies
    """From when they were meant to be sent"""
    refused: Latencies
    """How long the server took to refuse each of those it refused, from when it was really sent"""
    lateness: Latencies
    """How much later than meant requests were sent: the generator's own part in the latencies, and that of the server's limits"""
    bodies: Counter[bytes] = field(default_factory=Counter)
    """OK answers with gRPC's head, those told apart"""
    other_bodies: int = 0

    @property
    def ok(self) -> int:
        """Requests answered with status OK."""
        return self.statuses.get("OK", 0)

    @property
    def failed(self) -> int:
        """Requests that were sent, not cancelled by us, and not answered OK."""
        return self.sent - self.cancelled - self.ok

    @property
    def rate(self) -> float:
        """OK answers a second."""
        return self.measured / self.seconds

    @property
    def goodput(self) -> float:
        """Answers a second that were OK and came before their deadline."""
        return self.within / self.seconds

    @property
    def share_of_core(self) -> float:
        """Of the generator's core, that it took."""
        return self.cpu_seconds / self.seconds

    @property
    def is_floor(self) -> bool:
        """Whether the generator was so busy that the server may be able to do more."""
        return self.share_of_core > BUSY

    @property
    def by_status(self) -> str:
        """In words."""
        others = {"HELD_BACK": self.held_back, "CANCELLED BY CALLERS": self.cancelled, "UNANSWERED": self.unanswered}
        return ", ".join(f"{number:,} {name}" for name, number in (*self.statuses.items(), *others.items()) if number)


def run(target: Target, load: Load, on: Sequence[int] | None = None) -> Outcome:
    """Put this load on it, from the cores `on` (by default that of the load), and wait for its answers."""
    with running(target, load, on) as started:
        pass
    return started.outcome


@dataclass
class Running:
    """Load that is being put on a server; its outcome is there when it is over."""

    program: "subprocess.Popen[str]"
    outcome: Outcome = field(init=False)

    @property
    def is_over(self) -> bool:
        """Whether all of it is done."""
        return self.program.poll() is not None


@contextlib.contextmanager
def running(target: Target, load: Load, on: Sequence[int] | None = None, *, stop: bool = False) -> Iterator[Running]:
    """The same, beside what is done in the block; with `stop` it ends with the block, if not before.

    Raises:
        LoadError: if there is no generator, or it could not do its work.
    """
    if not GENERATOR.exists():
        raise LoadError(f"no load generator: `make bench` builds {GENERATOR.name} where there is cargo")
    # What it prints goes to a file: it is longer than a pipe, of which nobody reads until it is over.
    with tempfile.NamedTemporaryFile() as messages, tempfile.TemporaryFile("w+") as printed:
        messages.write(b"".join(framed(message) for message in target.messages))
        messages.flush()
        command = [str(GENERATOR), *_words(target, load, messages.name), "--attended", str(int(stop))]
        with on_cores(*(on or cores()[1:])):
            program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=printed, stderr=subprocess.PIPE, text=True)
        started = Running(program)
        try:
            yield started
            _, said = program.communicate(timeout=RUN_SECONDS)
        finally:
            program.kill()
            program.wait()
        if program.returncode:
            raise LoadError(f"the load generator: {said.strip()}")
        printed.seek(0)
        started.outcome = parse(printed.read())


def rate(target: Target, seconds: float, on: Sequence[int] | None = None) -> Outcome:
    """A closed loop in which every request must be answered, OK and with as many bytes as it should.

    Raises:
        LoadError: if one was not.
    """
    return checked(target, run(target, Closed(seconds), on))


def checked(target: Target, outcome: Outcome) -> Outcome:
    """This outcome, if everything that was sent was answered OK and with as many bytes as it should.

    Raises:
        LoadError: if not.
    """
    least, most = (len(framed(bytes(size))) for size in target.answer_bytes)
    if outcome.failed or not outcome.ok:
        raise LoadError(f"of {outcome.sent:,} requests not all were answered OK: {outcome.by_status}")
    if outcome.shortest < least or outcome.longest > most:
        raise LoadError(f"answers of {outcome.shortest} to {outcome.longest} bytes; they should have {least} to {most}")
    return outcome


def parse(printed: str) -> Outcome:
    """Read what the generator printed."""
    told: dict[str, Any] = json.loads(printed)
    for name in ("accepted", "refused", "lateness"):
        told[name] = Latencies([(nanoseconds / 1e9, count) for nanoseconds, count in told[name]])
    told["statuses"] = {_NAMES.get(int(code), code): number for code, number in told["statuses"].items()}
    told["bodies"] = Counter({bytes.fromhex(body): number for body, number in told["bodies"]})
    return Outcome(**told)


def _words(target: Target, load: Load, messages: str) -> Iterator[str]:
    words = {"address": target.address, "path": PATH, "messages": messages, "connections": target.connections}
    words |= {"seconds": load.seconds, "bodies": load.bodies, "seed": load.seed}
    if isinstance(load, Open):
        words |= {"rate": load.rate, "deadline": load.deadline}
    else:
        words |= {"in-flight": target.in_flight // target.connections, "warm-up": load.warm_up}
        words |= {"cancelled": load.cancelled, "cancel-within": load.cancel_within}
        words |= {} if load.requests is None else {"requests": load.requests}
    words |= {} if target.authorities is None else {"authorities": str(target.authorities)}
    for name, value in words.items():
        yield from (f"--{name}", str(value))
