"""Batches gather while the engine runs, and nobody in them pays for another."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from registry.bundle import Signature, TensorSpec
from server.engine import Columns, Tensor
from server.errors import DeadlineExceededError, ModelFailedError
from server.grpcio_transport.batcher import Batch, Batcher, ClosedError, Waiting
from server.loaded_version import LoadedVersion


class GatedEngine:
    """Doubles its input when the gate is open; fails on negative values. A third implementation of `Engine`, with a handle to hold it."""

    signature = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
    batchable = True

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.running = threading.Event()

    def run(self, inputs: Columns, outputs: Sequence[str]) -> dict[str, Tensor]:  # noqa: ARG002 -- the Protocol's
        self.running.set()
        assert self.gate.wait(10)
        if (inputs["x"] < 0).any():
            raise ModelFailedError("negative")
        return {"y": inputs["x"] * 2}


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


@pytest.fixture
def batches() -> list[Batch]:
    return []


@pytest.fixture
def batcher(engine: GatedEngine, batches: list[Batch]) -> Iterator[Batcher]:
    version = LoadedVersion("m", 1, "", engine.signature, engine, None, 0.0, batchable=engine.batchable)
    made = Batcher(version, max_batch_rows=8, max_queue_delay=0, observe=batches.append)
    yield made
    engine.gate.set()
    made.close()
    made.join(10)


def waiting(*values: float, deadline: float = float("inf")) -> Waiting:
    return Waiting({"x": np.array(values, np.float32)}, len(values), deadline, counted=True)


def hold(batcher: Batcher, engine: GatedEngine) -> Waiting:
    """Submit a request and return when it runs, held at the gate: what is submitted next gathers."""
    first = waiting(0.0)
    batcher.submit(first)
    assert engine.running.wait(10)
    return first


def test_requests_that_came_while_the_engine_ran_share_a_batch(batcher: Batcher, engine: GatedEngine, batches: list[Batch]) -> None:
    hold(batcher, engine)
    requests = [waiting(float(n), float(n)) for n in range(3)]
    for request in requests:
        batcher.submit(request)
    assert batcher.queue_rows == 6
    engine.gate.set()
    assert [request.answer.result(10)["y"].tolist() for request in requests] == [[0, 0], [2, 2], [4, 4]]
    batcher.close()
    batcher.join(10)
    assert [batch.rows for batch in batches] == [1, 6]
    assert batcher.queue_rows == 0


def test_batch_holds_at_most_max_batch_rows(batcher: Batcher, engine: GatedEngine, batches: list[Batch]) -> None:
    hold(batcher, engine)
    requests = [waiting(*[1.0] * 5) for _ in range(3)]
    for request in requests:
        batcher.submit(request)
    engine.gate.set()
    for request in requests:
        request.answer.result(10)
    batcher.close()
    batcher.join(10)
    assert [batch.rows for batch in batches] == [1, 5, 5, 5]


def test_cancelled_caller_leaves_its_batch_and_the_others_are_answered(batcher: Batcher, engine: GatedEngine, batches: list[Batch]) -> None:
    hold(batcher, engine)
    gone, stays = waiting(1.0), waiting(2.0)
    batcher.submit(gone)
    batcher.submit(stays)
    assert gone.answer.cancel()
    engine.gate.set()
    assert stays.answer.result(10)["y"].tolist() == [4]
    batcher.close()
    batcher.join(10)
    assert [batch.rows for batch in batches] == [1, 1]


def test_expired_request_is_not_run(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    late, stays = waiting(1.0, deadline=0.0), waiting(2.0)
    batcher.submit(late)
    batcher.submit(stays)
    engine.gate.set()
    assert stays.answer.result(10)["y"].tolist() == [4]
    with pytest.raises(DeadlineExceededError):
        late.answer.result(10)


def test_only_the_request_at_fault_fails(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    good, bad, other = waiting(1.0), waiting(-1.0), waiting(3.0)
    for request in (good, bad, other):
        batcher.submit(request)
    engine.gate.set()
    assert good.answer.result(10)["y"].tolist() == [2]
    assert other.answer.result(10)["y"].tolist() == [6]
    with pytest.raises(ModelFailedError, match="negative"):
        bad.answer.result(10)


def test_closed_batcher_answers_what_it_has_and_takes_no_more(batcher: Batcher, engine: GatedEngine) -> None:
    hold(batcher, engine)
    queued = waiting(1.0)
    batcher.submit(queued)
    batcher.close()
    with pytest.raises(ClosedError):
        batcher.submit(waiting(2.0))
    engine.gate.set()
    assert queued.answer.result(10)["y"].tolist() == [2]
