"""Ten million requests: memory does not grow with what has been served. The check is itself checked, against a daemon that keeps rows."""

import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tests.load import figures, leaks, loads, turns
from tests.load.figures import Figure
from tests.load.lab import Lab
from tests.load.leaks import MIB
from tests.load.loads import Closed, Outcome

REQUESTS, FORGETFUL_REQUESTS = 10_000_000, 1_000_000
LONGEST_SECONDS = 250.0
SAMPLE_SECONDS = 0.1
BAR = 1.0


def endurance(lab: Lab) -> Iterator[Figure]:
    """The daemon, and the one that keeps 64 bytes of every row."""
    lab.say(f"memory over {REQUESTS:,} requests")
    outcome, resident = _served(lab, "server", REQUESTS)
    note = f"{resident[0] / MIB:.0f} MiB at first, {resident[-1] / MIB:.0f} in the end; {outcome.by_status}"
    what = f"memory for each million of {outcome.sent:,} requests"
    yield figures.under(what, slope(resident, outcome.sent), "MiB", BAR, note)
    yield figures.none_of("  requests that were to be sent and were not", REQUESTS - outcome.sent)
    lab.say(f"memory over {FORGETFUL_REQUESTS:,} requests of a daemon that keeps rows")
    outcome, resident = _served(lab, "tests.load.forgetful_server", FORGETFUL_REQUESTS)
    kept = slope(resident, outcome.sent)
    yield Figure("  the same of one that keeps 64 bytes of each", kept, "MiB", f"over {BAR:g} MiB: found", kept > BAR)


def slope(resident: NDArray[np.float64], requests: int) -> float:
    """MiB that memory grows for each million requests, that were served evenly while it was looked at; the first part is warm-up."""
    return leaks.slope(resident) * len(resident) / requests * 1e6


def _served(lab: Lab, module: str, requests: int) -> tuple[Outcome, NDArray[np.float64]]:
    """What became of the load, and the memory at even times meanwhile."""
    with lab.daemon(module=module) as served:
        asked = lab.target(served)
        resident = []
        with turns.confirmed(served) as ledger:
            with loads.running(asked, Closed(LONGEST_SECONDS, warm_up=0.0, requests=requests)) as run:
                while not run.is_over:
                    resident.append(served.resident)
                    time.sleep(SAMPLE_SECONDS)
            ledger.add(served, loads.checked(asked, run.outcome))
    return run.outcome, np.array(resident, float)
