"""What it costs to watch: metrics scraped, drift counted and predictions logged, each beside a daemon that does without, turn by turn."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.exposition import scrape
from tests.load import figures
from tests.load.figures import Figure
from tests.load.lab import UNPROFILED, Lab
from tests.load.programs import Served

TURNS, TURN_SECONDS = 80, 0.4
"""Many short ones: what is looked for is smaller than what the speed of a shared machine changes by within seconds"""
SCRAPE_SECONDS = 1.0
LOG_FLAG = "prediction-log"


def observing(lab: Lab) -> Iterator[Figure]:
    """Drift alone, and everything at once, in percent of the throughput without."""
    yield from _drift(lab)
    logged = {LOG_FLAG: str(lab.room / "predictions"), f"{LOG_FLAG}-share": "1.0"} if daemon_knows(LOG_FLAG) else {}
    yield from _everything(lab, logged)


def _drift(lab: Lab) -> Iterator[Figure]:
    lab.say("the cost of counting drift")
    with lab.daemon() as served:
        rate, without, ratio = lab.alternate(lab.target(served), lab.target(served, UNPROFILED), TURNS, TURN_SECONDS)
    yield _cost("drift counting, throughput lost", ratio, 2, f"{rate:,.0f} /s with, {without:,.0f} /s without")


def _everything(lab: Lab, logged: Mapping[str, str]) -> Iterator[Figure]:
    """Two daemons on one core, of which one has nothing to do while the other is measured."""
    lab.say("the cost of metrics, drift and prediction log together")
    with lab.daemon(**logged) as served, lab.daemon() as bare, _scraped(served) as scrapes:
        rate, without, ratio = lab.alternate(lab.target(served), lab.target(bare, UNPROFILED), TURNS, TURN_SECONDS)
    what = "metrics, drift and prediction log" if logged else "metrics and drift (no prediction log in this daemon)"
    yield _cost(f"{what}, throughput lost", ratio, 5, f"{rate:,.0f} /s with, {without:,.0f} /s without")
    yield figures.none_of("  scrapes that failed", scrapes.failed, f"{scrapes.done} did not")


def _cost(what: str, ratio: float, bar: float, note: str) -> Figure:
    lost = 100 * (1 - ratio)
    return Figure(what, lost, "%", f"at most {bar:g} %", lost <= bar, note)


def daemon_knows(flag: str) -> bool:
    """Whether the daemon of this checkout has a flag."""
    shown = subprocess.run([sys.executable, "-m", "server", "--help"], capture_output=True, text=True, check=True).stdout
    return f"--{flag}" in shown


@dataclass
class Scrapes:
    """How many were answered, and how many were not."""

    done: int = 0
    failed: int = 0


@contextlib.contextmanager
def _scraped(served: Served) -> Iterator[Scrapes]:
    """Read the metrics of `served` once a second meanwhile, as Prometheus would."""
    scrapes, stopped = Scrapes(), threading.Event()

    def scrape_on() -> None:
        while not stopped.wait(SCRAPE_SECONDS):
            try:
                scrape(served.metrics[0])
                scrapes.done += 1
            except OSError:
                scrapes.failed += 1

    thread = threading.Thread(target=scrape_on)
    thread.start()
    try:
        yield scrapes
    finally:
        stopped.set()
        thread.join()
