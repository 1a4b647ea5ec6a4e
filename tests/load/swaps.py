"""A thousand hot swaps under load: nobody fails, every answer is one version's own, and memory does not grow with the number of swaps.

Three versions take turns, so that each swap loads one that was not loaded and drops one that was. The check of memory is itself checked,
against a daemon that leaks on purpose.
"""

import mmap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import grpc
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from registry.bundle import NUMERIC
from registry.registry import Registry
from server.onnx_engine import OnnxEngine
from tests.load import figures, http2, messages, models, open_loop, programs
from tests.load.figures import Figure
from tests.load.lab import LOGISTIC, Lab
from tests.load.messages import PATH
from tests.load.models import ACTOR
from tests.load.open_loop import Load
from tests.load.programs import Served
from tidegate_protos import inference_pb2 as pb
from training.onnx_export import LABEL, PROBABILITIES

VERSIONS = 3
SWAPS = 1_000
LEAKING_SWAPS = 300
WARM_UP = 0.2
"""The share of swaps after which memory is looked at"""
LOAD = Load(rate=500.0, seconds=1.0, deadline=5.0)
MIB = 1 << 20
BAR = 1.0
TOLERANCE = 1e-6
"""The same row rounds otherwise in a batch of another size; the versions differ by much more"""
BURST = Load(rate=10_000.0, seconds=0.5, deadline=2.0)
"""Before anything is measured: every thread that the daemon may have has worked, and has its memory"""
GIVE_UP_SECONDS = 10.0

References: TypeAlias = dict[str, tuple[bytes, NDArray[np.float32]]]
"""Label and probabilities of the one row that is asked for, by version"""


@dataclass
class Traffic:
    """What became of the requests while versions were swapped."""

    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    bodies: Counter[bytes] = field(default_factory=Counter)


def swapping(lab: Lab) -> Iterator[Figure]:
    """The daemon, and the one that leaks."""
    registry = lab.registry("swapping")
    trained = [models.logistic(seed) for seed in range(VERSIONS)]
    for version in trained:
        models.register(registry, LOGISTIC, version, profiled=True)
    references = {str(number): _reference(version.raw) for number, version in enumerate(trained, 1)}
    lab.say(f"{SWAPS:,} hot swaps under load")
    traffic, resident = _swapped(lab, registry, "server", SWAPS)
    good = traffic.statuses["OK"]
    wrong = sum(number for body, number in traffic.bodies.items() if not _is_right(body, references))
    statuses = ", ".join(f"{number:,} {name}" for name, number in traffic.statuses.items())
    note = f"at {LOAD.rate:g} /s: {statuses}; by {len({_version(body) for body in traffic.bodies})} versions"
    yield figures.none_of(f"{SWAPS:,} hot swaps under load: failed", traffic.sent - good, note)
    yield figures.none_of("  answers that are not their version's", wrong)
    yield figures.under("  memory for each 100 swaps", slope(resident), "MiB", BAR, f"{resident[-1] / MIB:.0f} MiB in the end")
    lab.say(f"{LEAKING_SWAPS} hot swaps of a daemon that leaks")
    leaked = slope(_swapped(lab, registry, "tests.load.leaking_server", LEAKING_SWAPS)[1])
    yield Figure("  the same of one that leaks 64 KiB each time", leaked, "MiB", f"over {BAR:g} MiB: found", leaked > BAR)


def slope(resident: NDArray[np.float64]) -> float:
    """MiB that memory grows for each 100 swaps: a line through what was resident, in bytes, after each swap but the first ones.

    The line of Theil and Sen, which moments with one more version in memory do not tilt.
    """
    return float(stats.theilslopes(resident[int(len(resident) * WARM_UP) :]).slope) * 100 / MIB


def _swapped(lab: Lab, registry: Registry, module: str, swaps: int) -> tuple[Traffic, NDArray[np.float64]]:
    """What became of the load, and the memory after each swap."""
    _promote(registry, (registry.state(LOGISTIC).production or 0) % VERSIONS + 1)
    message = messages.request(LOGISTIC, messages.rows(1))
    with (
        programs.tidegate(lab.room, {"registry": str(lab.room / "swapping")}, LOGISTIC, module=module) as served,
        grpc.insecure_channel(served.address) as channel,
        _traffic(served, message) as traffic,
    ):
        infer = channel.unary_unary(PATH, request_serializer=bytes, response_deserializer=pb.ModelInferResponse.FromString)
        resident = []
        for _ in range(swaps):
            number = (registry.state(LOGISTIC).production or 0) % VERSIONS + 1
            _promote(registry, number)
            _wait_for(number, lambda: str(infer(message, timeout=GIVE_UP_SECONDS).model_version))
            resident.append(_resident(served.pid))
    return traffic, np.array(resident, float)


def _promote(registry: Registry, number: int) -> None:
    registry.promote(LOGISTIC, number, to="production", actor=ACTOR, reason="its turn")


def _wait_for(number: int, answering: Callable[[], str]) -> None:
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while answering() != str(number):
        if time.monotonic() > deadline:
            raise TimeoutError(f"version {number} does not answer")


@contextmanager
def _traffic(served: Served, message: bytes) -> Iterator[Traffic]:
    """Open loops, one after the other, for as long as the block lasts; the last one is waited for."""
    traffic, stopped = Traffic(), threading.Event()
    request = http2.template(PATH, message)
    open_loop.run(served.address, request, BURST)

    def keep_on() -> None:
        while not stopped.is_set():
            outcome = open_loop.run(served.address, request, LOAD)
            traffic.sent += len(outcome.status)
            traffic.statuses.update(outcome.by_status)
            traffic.bodies.update(outcome.bodies)

    thread = threading.Thread(target=keep_on)
    thread.start()
    try:
        yield traffic
    finally:
        stopped.set()
        thread.join()


def _reference(raw: bytes) -> tuple[bytes, NDArray[np.float32]]:
    outputs = OnnxEngine(raw, threads=1).run({NUMERIC: messages.rows(1)}, (LABEL, PROBABILITIES))
    return bytes(outputs[LABEL][0]), outputs[PROBABILITIES][0]


def _is_right(body: bytes, references: References) -> bool:
    """Whether the label and the probabilities are those of the version that the answer names."""
    answer = pb.ModelInferResponse.FromString(body[5:])
    values = dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    label, probabilities = references[answer.model_version]
    near = np.allclose(np.frombuffer(values[PROBABILITIES], np.float32), probabilities, rtol=0, atol=TOLERANCE)
    return near and values[LABEL][4:] == label


def _version(body: bytes) -> str:
    return str(pb.ModelInferResponse.FromString(body[5:]).model_version)


def _resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) * mmap.PAGESIZE
