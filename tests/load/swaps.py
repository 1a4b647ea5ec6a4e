"""A thousand hot swaps under load: nobody fails, every answer is one version's own, and memory does not grow with the number of swaps.

Three versions take turns, so that each swap loads one that was not loaded and drops one that was. The check of memory is itself checked,
against a daemon that leaks on purpose.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from registry.registry import Registry
from tests.load import figures, leaks, loads, messages, models, programs, turns
from tests.load.answers import Reference, is_right, reference, version
from tests.load.figures import Figure
from tests.load.lab import LOGISTIC, Lab, target
from tests.load.leaks import MIB
from tests.load.loads import Closed, Outcome
from tests.load.messages import PATH
from tests.load.models import ACTOR
from tidegate_protos import inference_pb2 as pb

VERSIONS = 3
SWAPS = 1_000
LEAKING_SWAPS = 300
BODIES = 1_000
"""Different answers that are kept: the same row rounds otherwise in a batch of another size, but not in a thousand ways"""
BURST_SECONDS = 0.5
"""Before anything is measured: every thread that the daemon may have has worked, and has its memory"""
GIVE_UP_SECONDS = 10.0
LONGEST_SECONDS = 250.0
BAR = 1.0


def swapping(lab: Lab) -> Iterator[Figure]:
    """The daemon, and the one that leaks."""
    name = f"swapping-{lab.transport}"
    registry = lab.registry(name)
    trained = [models.logistic(seed) for seed in range(VERSIONS)]
    for one in trained:
        models.register(registry, LOGISTIC, one, profiled=True)
    references = {str(number): reference(one.raw, messages.rows(1)) for number, one in enumerate(trained, 1)}
    lab.say(f"{SWAPS:,} hot swaps at full load")
    outcome, resident = _swapped(lab, name, registry, "server", SWAPS)
    yield from _answers(outcome, references)
    yield figures.under("  memory for each 100 swaps", slope(resident), "MiB", BAR, f"{resident[-1] / MIB:.0f} MiB in the end")
    lab.say(f"{LEAKING_SWAPS} hot swaps of a daemon that leaks")
    leaked = slope(_swapped(lab, name, registry, "tests.load.leaking_server", LEAKING_SWAPS)[1])
    yield Figure("  the same of one that leaks 64 KiB each time", leaked, "MiB", f"over {BAR:g} MiB: found", leaked > BAR)


def _answers(outcome: Outcome, references: dict[str, Reference]) -> Iterator[Figure]:
    wrong = sum(number for body, number in outcome.bodies.items() if not is_right(body, references))
    note = f"at {outcome.rate:,.0f} /s: {outcome.by_status}; by {len({version(body) for body in outcome.bodies})} versions"
    yield figures.none_of(f"{SWAPS:,} hot swaps at full load: failed", outcome.failed, note)
    note = f"{len(outcome.bodies)} different ones, each compared with ONNX Runtime's"
    yield figures.none_of("  answers that are not their version's", wrong + outcome.other_bodies, note)


def slope(resident: NDArray[np.float64]) -> float:
    """MiB that memory grows for each 100 swaps, by what was resident after each."""
    return leaks.slope(resident) * 100


def _swapped(lab: Lab, name: str, registry: Registry, module: str, swaps: int) -> tuple[Outcome, NDArray[np.float64]]:
    """What became of the load, and the memory after each swap."""
    _promote(registry, _next(registry))
    with lab.started({"registry": str(lab.room / name)}, LOGISTIC, module=module) as served, programs.channel(served) as channel:
        infer = channel.unary_unary(PATH, request_serializer=bytes, response_deserializer=pb.ModelInferResponse.FromString)
        # With an id of its own the answer of a version is the same bytes every time.
        asked = target(served, messages.request(LOGISTIC, messages.rows(1), prediction_id="swapped"))
        loads.rate(asked, BURST_SECONDS)
        resident, counted = [], 0
        with turns.confirmed(served) as ledger:
            with loads.running(asked, Closed(LONGEST_SECONDS, warm_up=0.0, bodies=BODIES), stop=True) as run:
                for _ in range(swaps):
                    _promote(registry, number := _next(registry))
                    counted += _wait_for(number, lambda: str(infer(asked.messages[0], timeout=GIVE_UP_SECONDS).model_version))
                    resident.append(served.resident)
            ours = replace(run.outcome, sent=run.outcome.sent + counted, statuses={"OK": run.outcome.ok + counted})
            ledger.add(served, ours)
    return run.outcome, np.array(resident, float)


def _next(registry: Registry) -> int:
    return (registry.state(LOGISTIC).production or 0) % VERSIONS + 1


def _promote(registry: Registry, number: int) -> None:
    registry.promote(LOGISTIC, number, to="production", actor=ACTOR, reason="its turn")


def _wait_for(number: int, answering: Callable[[], str]) -> int:
    """Ask until this version answers; how often that was."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    asked = 1
    while answering() != str(number):
        asked += 1
        if time.monotonic() > deadline:
            raise TimeoutError(f"version {number} does not answer")
    return asked
