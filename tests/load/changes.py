"""How soon a change is felt: from start to ready, from a promotion or a rollback to the first answer of the version it brings."""

import statistics
import time
from collections.abc import Callable, Iterator

from registry.registry import Registry
from tests.load import figures, messages, models, programs
from tests.load.figures import Figure
from tests.load.lab import LOGISTIC, Lab
from tests.load.messages import PATH
from tests.load.models import ACTOR
from tests.load.programs import Served
from tidegate_protos import inference_pb2 as pb

LARGE = "large"
TURNS = 10
GIVE_UP_SECONDS = 10.0


def starting(lab: Lab) -> Iterator[Figure]:
    """From the start of the process to ready with a model of 10 MB; of five starts the slowest counts."""
    registry = lab.registry(f"starting-{lab.transport}")
    models.register_large(registry, LARGE)
    registry.promote(LARGE, 1, to="production", actor=ACTOR, reason="to be loaded")
    taken = []
    for _ in range(TURNS // 2):
        lab.say("start to ready with a model of 10 MB")
        start = time.perf_counter()
        with lab.started({"registry": str(lab.room / f"starting-{lab.transport}")}, LARGE):
            taken.append(time.perf_counter() - start)
    yield figures.under(
        "start to ready, 10 MB model", max(taken), "s", 2, f"median {statistics.median(taken):.2f} s of {len(taken)} starts"
    )


def promoting(lab: Lab) -> Iterator[Figure]:
    """From the call that promotes, or rolls back, to an answer of the other version; of ten the slowest counts.

    Each promotion is of a version that was not loaded before; a rollback returns to one that still is.
    """
    registry = lab.registry(f"promoting-{lab.transport}")
    for seed in range(TURNS + 1):
        models.register(registry, LOGISTIC, models.logistic(seed), profiled=True)
    registry.promote(LOGISTIC, 1, to="production", actor=ACTOR, reason="first")
    with lab.started({"registry": str(lab.room / f"promoting-{lab.transport}")}, LOGISTIC) as served:
        lab.say("promotion to the first answer of the new version")
        promotions, rollbacks = zip(*(_there_and_back(served, registry, number) for number in range(2, TURNS + 2)), strict=True)
    for what, taken, bar in (("promotion", promotions, 200), ("rollback", rollbacks, 50)):
        median = f"median {1e3 * statistics.median(taken):.1f} ms of {TURNS}"
        yield figures.under(f"{what} to the first answer of that version", 1e3 * max(taken), "ms", bar, median)


def _there_and_back(served: Served, registry: Registry, number: int) -> tuple[float, float]:
    forth = _felt(served, number, lambda: registry.promote(LOGISTIC, number, to="production", actor=ACTOR, reason="better"))
    return forth, _felt(served, 1, lambda: registry.rollback(LOGISTIC, actor=ACTOR, reason="worse"))


def _felt(served: Served, number: int, change: Callable[[], object]) -> float:
    """Seconds from the call of `change` to an answer of version `number`."""
    message = messages.request(LOGISTIC, messages.rows(1))
    with programs.channel(served) as channel:
        infer = channel.unary_unary(PATH, request_serializer=bytes, response_deserializer=pb.ModelInferResponse.FromString)
        infer(message, timeout=GIVE_UP_SECONDS)
        start = time.perf_counter()
        change()
        while infer(message, timeout=GIVE_UP_SECONDS).model_version != str(number):
            if time.perf_counter() - start > GIVE_UP_SECONDS:
                raise TimeoutError(f"version {number} does not answer")
        return time.perf_counter() - start
