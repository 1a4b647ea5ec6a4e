"""What a second replica on a second core adds. Server and load share both cores then, so the processor time of the load is taken out."""

from collections.abc import Iterator
from dataclasses import replace

from tests.load import figures, loads
from tests.load.figures import Figure
from tests.load.lab import BOOSTING, LOGISTIC, UNPROFILED, Lab
from tests.load.programs import cores

FLAG = "replicas"
CONNECTIONS = 32
"""Enough for the kernel to give each replica its share of them"""


def second_replica(lab: Lab) -> Iterator[Figure]:
    """Requests a second for each core that the daemon had, of two replicas beside one."""
    if len(set(cores())) == 1:
        yield Figure("a second replica on a second core", float("nan"), "x", "at least 1.7 x", note="there is but one core")
        return
    lab.say("one replica on one core")
    alone, _ = _rate(lab, 1)
    lab.say("two replicas on two cores")
    both, share = _rate(lab, 2)
    note = f"{alone:,.0f} /s by one; {both:,.0f} /s by two, while the load took {100 * share:.0f} % of the two cores"
    yield figures.at_least("a second replica on a second core", both / (1 - share) / alone, "x", 1.7, note)


def _rate(lab: Lab, replicas: int) -> tuple[float, float]:
    """Requests a second, and the share of the two cores that the load took."""
    on = cores()[:replicas]
    with lab.started({"registry": lab.url, FLAG: str(replicas)}, LOGISTIC, BOOSTING, UNPROFILED, on=on) as served:
        asked = replace(lab.target(served), connections=CONNECTIONS)
        outcome = loads.rate(asked, 2 * lab.seconds, cores() if replicas > 1 else None)
        return outcome.rate, outcome.share_of_core / len(cores())
