"""What it costs to watch: metrics scraped, drift counted and predictions logged, each beside a daemon that does without, turn by turn.

Compared is the processor time of the daemon for each request, until it has done what it put off: on a core that has nothing else to do this
is the throughput that is lost, and it counts the folds and writes that come after the answers, which a rate would leave out.
"""

import itertools
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.load import figures
from tests.load.figures import Figure
from tests.load.lab import LOGISTIC, UNPROFILED, Lab
from tests.load.programs import Served
from tests.load.turns import Ratio, Side, Turns

TURNS, TURN_SECONDS = 40, 0.35
"""Many short ones: what is looked for is smaller than what the speed of a shared machine changes by within seconds"""
SETTLE_SECONDS = 0.3
"""Longer than what is put off is put off"""
TURNS_OF_SECOND, OWN_SECONDS = 3, 30
"""Turns that are a second together, of which one has a scrape"""
SAMPLED = "0.01"


def observing(lab: Lab) -> Iterator[Figure]:
    """Each alone, in percent of the throughput without."""
    yield from _drift(lab)
    if lab.is_native:
        yield from _metrics(lab)
        yield from _sampled_log(lab)
        yield from _own_work(lab)
        yield from _busy_thread(lab)
    else:
        yield from _everything(lab)


def _drift(lab: Lab) -> Iterator[Figure]:
    lab.say("the cost of counting drift")
    with lab.daemon() as served:
        turns = _turns(lab, Side(served, lab.target(served)), Side(served, lab.target(served, UNPROFILED)))
    yield _cost("drift counting, throughput lost", turns, 2)


def _metrics(lab: Lab) -> Iterator[Figure]:
    lab.say("the cost of being scraped")
    with lab.daemon() as served:
        target = lab.target(served)
        turns = _turns(lab, Side(served, target, lambda: _scrape(served)), Side(served, target))
    # One scrape in each turn is more than one a second.
    yield _cost("metrics scraped each second, throughput lost", turns, 1, _taken(turns, 0))


def _sampled_log(lab: Lab) -> Iterator[Figure]:
    lab.say("the cost of a prediction log of 1 %")
    flags = {"prediction-log": str(lab.room / "sampled"), "prediction-log-share": SAMPLED}
    with lab.daemon(flags) as logged, lab.daemon() as bare:
        turns = _turns(lab, *(Side(served, lab.target(served)) for served in (logged, bare)))
    yield _cost("prediction log of 1 %, throughput lost", turns, 2)


def _own_work(lab: Lab) -> Iterator[Figure]:
    """A daemon that follows a registry, is scraped each second and logs 1 %, beside one that serves a folder and does nothing else."""
    lab.say("the daemon's own work in Python")
    flags = {"prediction-log": str(lab.room / "own"), "prediction-log-share": SAMPLED}
    plain = {"model-dir": str(_folder(lab)), "model-name": LOGISTIC}
    with lab.daemon(flags) as all_on, lab.started(plain, LOGISTIC) as bare:
        is_scraped = itertools.cycle([True, *[False] * (TURNS_OF_SECOND - 1)])

        def meanwhile() -> None:
            if next(is_scraped):
                _scrape(all_on)

        sides = Side(all_on, lab.target(all_on, UNPROFILED), meanwhile), Side(bare, lab.target(bare))
        turns = lab.alternate(*sides, number=TURNS_OF_SECOND * OWN_SECONDS, seconds=TURN_SECONDS, settle=SETTLE_SECONDS)
    yield _cost("follower, metrics and log together, throughput lost", turns, 3, together=TURNS_OF_SECOND)


def _busy_thread(lab: Lab) -> Iterator[Figure]:
    """What is left beside a thread of Python that never waits: what any work in Python that grows would do."""
    lab.say("a busy thread of Python in the daemon")
    with lab.daemon() as served:
        alone = lab.alternate(Side(served, lab.target(served)), number=3)
    with lab.daemon(module="tests.load.busy_server") as served:
        beside = lab.alternate(Side(served, lab.target(served)), number=3)
    share = 100 * beside.rate(0) / alone.rate(0)
    yield Figure("beside a thread of Python that never waits", share, "%", note=f"{beside.rate(0):,.0f} /s of {alone.rate(0):,.0f}")


def _everything(lab: Lab) -> Iterator[Figure]:
    """Two daemons on one core, of which one has nothing to do while the other is measured."""
    lab.say("the cost of metrics, drift and prediction log together")
    flags = {"prediction-log": str(lab.room / "predictions"), "prediction-log-share": "1.0"}
    with lab.daemon(flags) as served, lab.daemon() as bare:
        turns = _turns(lab, Side(served, lab.target(served), lambda: _scrape(served)), Side(bare, lab.target(bare, UNPROFILED)))
    yield _cost("metrics, drift and prediction log, throughput lost", turns, 5)


def _turns(lab: Lab, *sides: Side) -> Turns:
    return lab.alternate(*sides, number=TURNS, seconds=TURN_SECONDS, settle=SETTLE_SECONDS)


def _cost(what: str, turns: Turns, bar: float, share: float = 1.0, together: int = 1) -> Figure:
    """What the first side loses beside the second, of so many turns `together`; `share` of it, where more was done than is meant."""
    seen = turns.costs(0, 1, together)
    lost = 100 * share * (1 - 1 / seen.median)
    note = f"{_interval(seen, share)}; {turns.rate(0):,.0f} /s with, {turns.rate(1):,.0f} /s without"
    return figures.at_most(what, lost, "%", bar, note)


def _interval(seen: Ratio, share: float) -> str:
    low, high = (100 * share * (1 - 1 / bound) for bound in (seen.low, seen.high))
    return f"95 of 100 such medians are between {low:.1f} and {high:.1f} %"


def _taken(turns: Turns, side: int) -> float:
    """Seconds of processor time of the daemon in one of its turns, which is its share of a second that is full of requests."""
    taken = sorted(turn.cost * turn.outcome.sent for turn in turns.sides[side])
    return taken[len(taken) // 2]


def _scrape(served: Served) -> None:
    """Read the metrics once while the load runs, as Prometheus would; not read any further here, where the load needs the core."""
    time.sleep(TURN_SECONDS / 2)
    with urllib.request.urlopen(served.metrics[0], timeout=10) as answer:  # noqa: S310 -- a loopback URL of ours
        answer.read()


def _folder(lab: Lab) -> Path:
    folder = lab.room / "plain"
    folder.mkdir(exist_ok=True)
    lab.url  # noqa: B018 -- trains the models
    (folder / "model.onnx").write_bytes(lab.trained[LOGISTIC].raw)
    return folder
