"""What is refused before it waits, how, and how soon."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request, reason, retry_seconds
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value
from tidegate_protos import inference_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from tidegate_protos import inference_pb2 as pb

SIGNATURE = Signature((TensorSpec("numeric", "FP32", (-1, 3), models.COLUMNS),), (TensorSpec("scaled", "FP32", (-1, 3)),))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with `slow` in production: some 50 ms a run."""
    root = tmp_path_factory.mktemp("admission") / "registry"
    registry = create_registry(str(root))
    registry.register("slow", {bundle.MODEL: models.slow(60_000), bundle.SIGNATURE: SIGNATURE.encode()}, {}, actor="test", reason="slow")
    registry.promote("slow", 1, to="production", actor="test", reason="slow")
    return root


@contextlib.contextmanager
def serving(root: Path, folder: Path, **flags: str) -> Iterator[Daemon]:
    with daemon(folder, {"registry": str(root), **{name.replace("_", "-"): flag for name, flag in flags.items()}}) as running:
        running.wait_for("slow")
        yield running


def ask(running: Daemon, rows: int = 1, priority: int = 0, timeout: float = 20) -> "grpc.Future[pb.ModelInferResponse]":
    request = raw_request("slow", {"numeric": np.ones((rows, 3), np.float32)})
    if priority:
        request.parameters["priority"].uint64_param = priority
    return running.stub.ModelInfer.future(request, timeout=timeout)  # type: ignore[no-any-return]


@contextlib.contextmanager
def another_caller(running: Daemon) -> Iterator[Daemon]:
    """The same daemon by a connection of its own."""
    with grpc.insecure_channel(running.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield dataclasses.replace(running, stub=pb_grpc.GRPCInferenceServiceStub(channel))  # type: ignore[no-untyped-call]


def refusals(calls: "list[grpc.Future[pb.ModelInferResponse]]") -> list[grpc.RpcError]:
    return [error for call in calls if isinstance(error := call.exception(), grpc.RpcError)]


def queued(running: Daemon) -> float:
    return value(scrape(running.metrics_url), "tidegate_queue_rows", model="slow")


@pytest.fixture
def small(root: Path, tmp_path: Path) -> Iterator[Daemon]:
    """At most 8 rows unanswered."""
    with serving(root, tmp_path, max_queue_rows="8", max_batch_rows="4") as running:
        yield running


def test_full_queue_is_refused_at_once_and_says_when_to_try_again(small: Daemon) -> None:
    calls = [ask(small) for _ in range(40)]
    begun = time.perf_counter()
    first = ask(small)
    errors = refusals([first])
    assert time.perf_counter() - begun < 0.05
    errors += refusals(calls)
    assert 20 < len(errors) < 40
    assert {(error.code(), reason(error), retry_seconds(error)) for error in errors} == {
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL", 0.1)
    }
    assert value(scrape(small.metrics_url), "tidegate_rejected_total", model="slow", reason="QUEUE_FULL") == len(errors)


def test_bytes_are_bounded_as_well(root: Path, tmp_path: Path) -> None:
    with serving(root, tmp_path, max_queue_bytes="10000") as running:
        calls = [ask(running, rows=300) for _ in range(10)]
        assert {reason(error) for error in refusals(calls)} == {"QUEUE_FULL"}
        assert len(refusals(calls)) == 8


def test_request_larger_than_the_bound_is_let_in_when_nothing_waits(small: Daemon) -> None:
    assert raw_floats(ask(small, rows=50).result()).shape == (50, 3)


def test_one_caller_leaves_room_for_the_next(small: Daemon) -> None:
    greedy = [ask(small) for _ in range(40)]
    wait_until(lambda: queued(small) >= 2, "nothing waits")
    with another_caller(small) as modest:
        assert not refusals([ask(modest)])
    assert refusals(greedy)


def test_least_urgent_is_refused_first_and_most_urgent_last(small: Daemon) -> None:
    with another_caller(small) as other:
        busy = [*[ask(small) for _ in range(4)], *[ask(other) for _ in range(4)]]
        wait_until(lambda: queued(small) >= 4, "nothing waits")
        low, normal, high = ask(small, priority=3), ask(small, priority=2), ask(small, priority=1)
        assert [len(refusals([call])) for call in (low, normal, high)] == [1, 1, 0]
        assert not refusals(busy)


def test_higher_priority_overtakes_what_waits(root: Path, tmp_path: Path) -> None:
    with serving(root, tmp_path, max_batch_rows="1") as running:
        ended: list[str] = []
        calls = [("low", ask(running, priority=3)) for _ in range(6)]
        wait_until(lambda: queued(running) >= 4, "nothing waits")
        calls.append(("high", ask(running, priority=1)))
        for name, call in calls:
            call.add_done_callback(lambda _, name=name: ended.append(name))  # type: ignore[misc]
        for _, call in calls:
            call.result()
        wait_until(lambda: len(ended) == 7, "a callback is missing")
        assert ended.index("high") <= 3


def test_deadline_that_cannot_be_met_is_refused_at_once(root: Path, tmp_path: Path) -> None:
    with serving(root, tmp_path, max_batch_rows="1") as running:
        for _ in range(3):
            ask(running).result()
        busy = [ask(running) for _ in range(10)]
        wait_until(lambda: queued(running) >= 5, "nothing waits")
        begun = time.perf_counter()
        error = refusals([ask(running, timeout=0.2)])[0]
        assert time.perf_counter() - begun < 0.1
        assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DEADLINE_UNREACHABLE")
        assert retry_seconds(error) > 0
        assert not refusals(busy)


def test_idle_engine_is_tried_whatever_was_expected(root: Path, tmp_path: Path) -> None:
    with serving(root, tmp_path) as running:
        ask(running).result()
        assert refusals([ask(running, timeout=0.01)])[0].code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_rate_of_a_caller_is_limited_in_rows_and_its_burst_is_given_back(root: Path, tmp_path: Path) -> None:
    with serving(root, tmp_path, rate_limit="20", rate_burst="10") as running:
        assert not refusals([ask(running, rows=10)])
        error = refusals([ask(running, rows=10)])[0]
        assert (error.code(), reason(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert 0 < retry_seconds(error) <= 0.5
        time.sleep(retry_seconds(error) + 0.01)
        assert not refusals([ask(running, rows=10)])


def test_fast_model_is_not_held_up_by_a_slow_one(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "both"))
    models.register_scaled(registry, "fast", 2.0)
    registry.register("slow", {bundle.MODEL: models.slow(60_000), bundle.SIGNATURE: SIGNATURE.encode()}, {}, actor="test", reason="slow")
    for model in ("fast", "slow"):
        registry.promote(model, 1, to="production", actor="test", reason="both")
    with serving(tmp_path / "both", tmp_path) as running:
        running.wait_for("fast")
        busy = [ask(running) for _ in range(20)]
        with ThreadPoolExecutor(4) as pool:
            begun = time.perf_counter()
            request = raw_request("fast", {"numeric": np.ones((1, 3), np.float32)})
            list(pool.map(lambda _: running.stub.ModelInfer(request, timeout=5), range(20)))
            seconds = time.perf_counter() - begun
        assert not busy[-1].done() or seconds < 1
        assert seconds < 2
        for call in busy:
            call.cancel()
