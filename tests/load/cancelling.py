"""Callers who give up: half of them, at any time. Nobody else may notice, and nothing of theirs may stay behind."""

import time
from collections.abc import Iterator
from dataclasses import replace

from tests.load import figures, messages
from tests.load.answers import is_right, reference
from tests.load.figures import Figure
from tests.load.lab import LOGISTIC, Lab, confirmed, target
from tests.load.loads import Closed, Outcome
from tests.load.programs import Served

SHARE = 0.5
BODIES = 1_000
SETTLE_SECONDS = 2.0


def cancelling(lab: Lab) -> Iterator[Figure]:
    """A closed loop without, to see how long an answer takes; then with half of the callers giving up within that time."""
    row = messages.rows(1)
    with lab.daemon() as served:
        lab.say("half of the callers give up")
        asked = target(served, messages.request(LOGISTIC, row, prediction_id="asked"))
        within = confirmed(served, asked, Closed(lab.seconds)).accepted.percentile(90.0)
        outcome = confirmed(served, asked, Closed(2 * lab.seconds, bodies=BODIES, cancelled=SHARE, cancel_within=within))
        left = _in_flight(served)
        after = confirmed(served, replace(asked, in_flight=4), Closed(lab.seconds / 2))
    right = {"1": reference(lab.trained[LOGISTIC].raw, row)}
    wrong = sum(number for body, number in outcome.bodies.items() if not is_right(body, right)) + outcome.other_bodies
    yield figures.none_of("50 % of callers give up: others that failed", outcome.failed, _note(outcome, within))
    yield figures.none_of("  answers that are not right", wrong, f"{len(outcome.bodies)} different ones, each compared with ONNX Runtime's")
    yield figures.none_of("  requests in flight when all have gone", left)
    yield figures.none_of("  of those who came then, failed", after.failed, after.by_status)


def _note(outcome: Outcome, within: float) -> str:
    return f"{outcome.by_status}; within {1e3 * within:.2f} ms; {outcome.rate:,.0f} answers/s"


def _in_flight(served: Served) -> int:
    """Requests that the daemon still has, once it has had time to let them go."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (left := served.counted("tidegate_in_flight_requests")) and time.monotonic() < deadline:
        time.sleep(0.05)
    return int(left)
