"""What a second replica on a second core adds. Server and load share both cores then, so the processor time of the load is taken out."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from tests.load import figures, loads
from tests.load.figures import Figure
from tests.load.lab import BOOSTING, LOGISTIC, UNPROFILED, Lab
from tests.load.loads import Outcome
from tests.load.programs import Served, cores

FLAG = "replicas"
CONNECTIONS = 32
"""Enough for the kernel to give each replica its share of them"""
REPLICA_TURNS = 7


def second_replica(lab: Lab) -> Iterator[Figure]:
    """Requests a second for each core that the daemon had, of two replicas beside one."""
    if len(set(cores())) == 1:
        yield Figure("a second replica on a second core", float("nan"), "x", "at least 1.7 x", note="there is but one core")
        return
    with _served(lab, 1) as one, _served(lab, 2) as two:
        lab.say("one replica on one core, and two replicas on two, by turns")
        turns = [(_rate(lab, one, None), _rate(lab, two, cores())) for _ in range(REPLICA_TURNS)]
    loaded = [both.share_of_core / len(cores()) for _, both in turns]
    times = [both.rate / (1 - share) / alone.rate for (alone, both), share in zip(turns, loaded, strict=True)]
    alone, both = (statistics.median(outcome.rate for outcome in side) for side in zip(*turns, strict=True))
    load = statistics.median(loaded)
    note = f"{alone:,.0f} /s by one; {both:,.0f} /s by two, while the load took {100 * load:.0f} % of the two cores"
    all_times = ", ".join(f"{seen:.2f}" for seen in sorted(times))
    yield figures.at_least("a second replica on a second core", statistics.median(times), "x", 1.7, f"{note}; all turns {all_times}")


def _served(lab: Lab, replicas: int) -> AbstractContextManager[Served]:
    return lab.started({"registry": lab.url, FLAG: str(replicas)}, LOGISTIC, BOOSTING, UNPROFILED, on=cores()[:replicas])


def _rate(lab: Lab, served: Served, on: Sequence[int] | None) -> Outcome:
    asked = replace(lab.target(served), connections=CONNECTIONS)
    return loads.rate(asked, lab.seconds, on)
