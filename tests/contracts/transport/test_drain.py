"""SIGTERM: open streams hold nothing up, what was accepted is answered, what comes later is told to go elsewhere."""

import queue
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from registry.route import Target
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request, reason, retry_seconds
from tests.contracts.transport.wire import wire
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value

if TYPE_CHECKING:
    from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)
SLOW = Signature((TensorSpec("numeric", "FP32", (-1, 3), models.COLUMNS),), (TensorSpec("scaled", "FP32", (-1, 3)),))
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Daemon]:
    """One row a run, some 100 ms each."""
    registry = create_registry(str(tmp_path / "registry"))
    registry.register("slow", {bundle.MODEL: models.slow(120_000), bundle.SIGNATURE: SLOW.encode()}, {}, actor="test", reason="slow")
    registry.promote("slow", 1, to="production", actor="test", reason="slow")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry"), "max-batch-rows": "1"}) as running:
        running.wait_for("slow")
        yield running


def test_open_streams_hold_the_end_up_for_no_longer_than_answers_need_to_leave(slow: Daemon) -> None:
    requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    watched = health_pb2_grpc.HealthStub(grpc.insecure_channel(slow.address)).Watch(health_pb2.HealthCheckRequest(), timeout=30)
    next(watched)
    idle = slow.stub.ModelStreamInfer(iter(requests.get, None), timeout=30)
    requests.put(raw_request("slow", {"numeric": ROW}))
    next(idle)
    with wire(slow.address) as silent:
        for path in ("/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ServerLive"):
            silent.open(path)
        silent.flush()
        begun = time.monotonic()
        slow.program.process.send_signal(signal.SIGTERM)
        assert next(watched).status == NOT_SERVING
        assert slow.program.process.wait(10) == 0
        assert time.monotonic() - begun < 4
    requests.put(None)
    with pytest.raises(grpc.RpcError):
        list(idle)


def test_accepted_requests_are_answered_and_later_ones_are_told_to_try_elsewhere(slow: Daemon) -> None:
    requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    stream = slow.stub.ModelStreamInfer(iter(requests.get, None), timeout=30)
    requests.put(raw_request("slow", {"numeric": ROW}))
    accepted = [slow.stub.ModelInfer.future(raw_request("slow", {"numeric": ROW}), timeout=30) for _ in range(15)]
    wait_until(lambda: value(scrape(slow.metrics_url), "tidegate_queue_rows", model="slow") >= 13, "they do not wait", 5)
    slow.program.process.send_signal(signal.SIGTERM)
    refused = first_refusal(slow)
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert (reason(refused), retry_seconds(refused)) == ("DRAINING", 1.0)
    requests.put(raw_request("slow", {"numeric": ROW}))
    requests.put(None)
    first, second = stream
    assert raw_floats(first.infer_response).shape == (1, 3)
    assert "[UNAVAILABLE]" in second.error_message
    assert all(raw_floats(call.result()).shape == (1, 3) for call in accepted)
    assert slow.program.process.wait(20) == 0


def first_refusal(running: Daemon) -> grpc.RpcError:
    """Asks every 50 ms until one is refused; those asked before that were accepted, or are refused as well."""
    asked: list[grpc.Future[pb.ModelInferResponse]] = []
    for _ in range(50):
        asked.append(running.stub.ModelInfer.future(raw_request("slow", {"numeric": ROW}), timeout=30))
        time.sleep(0.05)
        for call in asked:
            if call.done() and isinstance(error := call.exception(), grpc.RpcError):
                return error
    raise AssertionError("nothing is refused")


def test_copies_that_nobody_waits_for_hold_nothing_up(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    registry.register("scaled", {bundle.MODEL: models.slow(1_000_000), bundle.SIGNATURE: SLOW.encode()}, {}, actor="test", reason="slow")
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    registry.route("scaled", Target(1, shadows=(2,)), actor="test", reason="compare")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry"), "max-batch-rows": "1"}) as running:
        running.wait_for("scaled")
        running.wait_for("scaled", "2")
        for _ in range(100):
            running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)
        wait_until(lambda: value(scrape(running.metrics_url), "tidegate_queue_rows", model="scaled", version="2") > 50, "no copies wait", 5)
        begun = time.monotonic()
        running.program.process.send_signal(signal.SIGTERM)
        assert running.program.process.wait(20) == 0
        assert time.monotonic() - begun < 5
