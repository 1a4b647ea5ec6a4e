"""How the daemon grows with what is asked of it: requests in flight, rows of a request, features of a row, models that are loaded."""

from collections.abc import Iterator
from dataclasses import replace

from tests.load import messages, models, programs
from tests.load.figures import Figure
from tests.load.growth_chart import LIMIT, Point
from tests.load.lab import LOGISTIC, Lab, reconciled, target
from tests.load.loads import Outcome, Target, rate
from tests.load.models import ACTOR
from tests.load.programs import Served

IN_FLIGHT = (1, 16, 128, 1_024)
ROWS = (1, 8, 64, 512)
FEATURES = (4, 20, 200)
MODELS = (1, 10, 100)
ALL_MODELS = "models loaded, all asked by turns"


def growing(lab: Lab) -> Iterator[Figure]:
    """Requests a second of the logistic regression, with all but one thing as elsewhere: 128 in flight, 1 row, 20 features."""
    with lab.daemon() as served:
        for number in IN_FLIGHT:
            # Half of what is allowed on a connection: at the limit itself grpcio ends a few as CANCELLED.
            asked = replace(lab.target(served), in_flight=number, connections=min(max(4, number // 128), number))
            yield _point(lab, served, asked, "requests in flight", number)
        for number in ROWS:
            yield _point(lab, served, lab.target(served, rows=number), "rows of a request", number)
    yield from _features(lab)
    for number in MODELS:
        yield from _models(lab, number)


def _features(lab: Lab) -> Iterator[Figure]:
    registry = lab.registry(f"features-{lab.transport}")
    names = [f"features-{number}" for number in FEATURES]
    for name, number in zip(names, FEATURES, strict=True):
        models.register(registry, name, models.logistic(features=number), profiled=True)
        registry.promote(name, 1, to="production", actor=ACTOR, reason="to be measured")
    with lab.started({"registry": str(lab.room / f"features-{lab.transport}")}, *names) as served:
        for name, number in zip(names, FEATURES, strict=True):
            asked = target(served, messages.request(name, messages.rows(1, features=number)))
            yield _point(lab, served, asked, "features of a row", number)


def _models(lab: Lab, number: int) -> Iterator[Figure]:
    """So many models are loaded. One of them is asked, and then all by turns."""
    place = f"models-{number}-{lab.transport}"
    registry, trained = lab.registry(place), models.logistic()
    names = [f"{LOGISTIC}-{one}" for one in range(number)]
    for name in names:
        models.register(registry, name, trained, profiled=True)
        registry.promote(name, 1, to="production", actor=ACTOR, reason="to be measured")
    with lab.started({"registry": str(lab.room / place)}, *names) as served:
        requests = [messages.request(name, messages.rows(1)) for name in names]
        yield _point(lab, served, target(served, requests[0]), "models loaded, one asked", number)
        yield _point(lab, served, target(served, *requests), ALL_MODELS, number)


def _point(lab: Lab, served: Served, asked: Target, what: str, value: int) -> Figure:
    lab.say(f"{what}: {value:,}")
    outcome = reconciled(served, asked, lab.seconds)
    seen = [_seen(what, value, lab.transport, outcome)]
    if lab.is_native and what != ALL_MODELS:
        with programs.bare_http2(lab.room, asked.answer_bytes[1]) as bare:
            limit = replace(asked, address=bare.address, answer_bytes=(asked.answer_bytes[1],) * 2)
            seen.append(_seen(what, value, LIMIT, rate(limit, lab.seconds / 2)))
    lab.grown.extend(seen)
    beside = f"; {LIMIT} {seen[1].rate:,.0f} /s" if len(seen) > 1 else ""
    note = f"p50 {1e3 * seen[0].p50:.3g} ms, p99 {1e3 * seen[0].p99:.3g} ms{beside}"
    return Figure(f"{what}: {value:,}", outcome.rate, "/s", note=note, is_floor=outcome.is_floor)


def _seen(what: str, value: int, who: str, outcome: Outcome) -> Point:
    p50, p99 = (outcome.accepted.percentile(share) for share in (50.0, 99.0))
    return Point(what, value, who, outcome.rate, p50, p99, outcome.is_floor)
