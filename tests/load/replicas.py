"""What a second replica on a second core adds. Server and load share both cores then, so the processor time of the load is taken out."""

import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from tests.load import figures, loads
from tests.load.figures import Figure
from tests.load.lab import BOOSTING, LOGISTIC, UNPROFILED, Lab
from tests.load.loads import Outcome
from tests.load.programs import Served, cores, on_cores

FLAG = "replicas"
CONNECTIONS = 32
"""For each replica: enough for the kernel to give each of two its share"""
REPLICA_TURNS = 7
COUNTING_SECONDS = 0.5
_COUNTING = """
import time
counted, until = 0, time.monotonic() + {seconds}
while time.monotonic() < until:
    for _ in range(1000):
        counted += 1
print(counted)
"""


def second_replica(lab: Lab) -> Iterator[Figure]:
    """Requests a second for each core that the daemon had, of two replicas beside one."""
    if len(set(cores())) == 1:
        yield Figure("a second replica on a second core", float("nan"), "x", "at least 1.7 x", note="there is but one core")
        return
    with _served(lab, 1) as one, _served(lab, 2) as two:
        lab.say("one replica on one core, and two replicas on two, by turns")
        turns, counting = [], []
        for _ in range(REPLICA_TURNS):
            turns.append((_rate(lab, one, None), _rate(lab, two, cores())))
            counting.append(sum(_counted(*cores())) / sum(_counted(cores()[0])))
    loaded = [both.share_of_core / len(cores()) for _, both in turns]
    times = [both.rate / (1 - share) / alone.rate for (alone, both), share in zip(turns, loaded, strict=True)]
    alone, both = (statistics.median(outcome.rate for outcome in side) for side in zip(*turns, strict=True))
    load = statistics.median(loaded)
    note = f"{alone:,.0f} /s by one; {both:,.0f} /s by two, while the load took {100 * load:.0f} % of the two cores"
    yield figures.at_least("a second replica on a second core", statistics.median(times), "x", 1.7, f"{note}; {_each(times)}")
    yield Figure("  a second process that only counts", statistics.median(counting), "x", note=_each(counting))


def _each(times: Sequence[float]) -> str:
    return "all turns " + ", ".join(f"{seen:.2f}" for seen in sorted(times))


def _served(lab: Lab, replicas: int) -> AbstractContextManager[Served]:
    return lab.started({"registry": lab.url, FLAG: str(replicas)}, LOGISTIC, BOOSTING, UNPROFILED, on=cores()[:replicas])


def _counted(*on: int) -> list[int]:
    """How far processes count at the same time that do nothing else, one on each of these cores: what the cores are together."""
    processes = []
    for core in on:
        with on_cores(core):
            command = [sys.executable, "-c", _COUNTING.format(seconds=COUNTING_SECONDS)]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return [int(process.communicate(timeout=60)[0]) for process in processes]


def _rate(lab: Lab, served: Served, on: Sequence[int] | None) -> Outcome:
    """Each replica is given as much as the one has alone."""
    asked, replicas = lab.target(served), len(served.metrics)
    asked = replace(asked, connections=replicas * CONNECTIONS, in_flight=replicas * asked.in_flight)
    return loads.rate(asked, lab.seconds, on)
