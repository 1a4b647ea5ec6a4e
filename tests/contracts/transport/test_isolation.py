"""What a caller does never harms its neighbour in a batch."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from tests.contracts.transport.calls import in_flight, raw_floats, raw_request, reason
from tests.daemons import Daemon, wait_until
from tests.exposition import scrape, value


def test_rows_of_many_callers_come_back_to_the_right_one(served: Daemon) -> None:
    generator = random.Random(1)  # noqa: S311 -- a seeded stress

    def call(seed: int) -> bool:
        rows = np.full((seed % 5 + 1, 3), seed, np.float32)
        return bool((raw_floats(served.stub.ModelInfer(raw_request("scaled", {"numeric": rows}), timeout=20)) == rows * 2).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, generator.sample(range(10_000), 400)))


def test_only_the_caller_whose_rows_fail_is_told_so(served: Daemon) -> None:
    def call(index: int) -> str:
        try:
            answer = served.stub.ModelInfer(raw_request("lookup", {"index": np.array([index], np.int64)}), timeout=20)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.INTERNAL
            return reason(error)
        return str(float(raw_floats(answer)[0]))

    indexes = [index % 12 for index in range(300)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(call, indexes))
    assert answers == [str(index * 10.0) if index < 10 else "MODEL_FAILED" for index in indexes]


def test_cancelled_callers_harm_nobody_and_leave_no_row_waiting(served: Daemon) -> None:
    generator = random.Random(2)  # noqa: S311 -- a seeded stress

    def call(seed: int) -> bool:
        rows = np.full((3, 3), seed, np.float32)
        future = served.stub.ModelInfer.future(raw_request("scaled", {"numeric": rows}), timeout=20)
        if seed % 2:
            time.sleep(generator.random() / 500)
            future.cancel()
            return True
        return bool((raw_floats(future.result()) == rows * 2).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(call, range(400)))
    wait_until(lambda: value(scrape(served.metrics_url), "tidegate_queue_rows", model="scaled", version="1") == 0, "rows still wait", 5)


@pytest.mark.parametrize("seconds", [1e-6, 0.0005])
def test_deadline_that_passes_is_deadline_exceeded(served: Daemon, seconds: float) -> None:
    rows = np.zeros((1, 3), np.float32)
    try:
        served.stub.ModelInfer(raw_request("scaled", {"numeric": rows}), timeout=seconds)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert served.stub.ModelInfer(raw_request("scaled", {"numeric": rows}), timeout=5).model_version == "1"


SEEDS = [11, 12, 13]
LATE_SECONDS = 5.0


@pytest.mark.parametrize("seed", SEEDS)
def test_neighbours_of_every_kind_of_caller_get_right_and_timely_answers(served: Daemon, seed: int) -> None:
    """Half of the callers go away at random; others send wrong shapes, deadlines that have passed, rows on which the model fails."""
    generator = random.Random(seed)  # noqa: S311 -- a seeded stress
    problems: list[str] = []
    kinds: Counter[str] = Counter()
    told: list[threading.Event] = []
    begun = time.monotonic()
    for number in range(600):
        kind = "cancelled" if generator.random() < 0.5 else generator.choice(["good", "good", "wrong", "expired", "failing", "index"])
        kinds[kind] += 1
        told.append(ended := threading.Event())
        call, check = start(served, kind, number)
        call.add_done_callback(partial(note, problems, kind, check, ended))
        if kind == "cancelled":
            time.sleep(generator.random() / 1000)
            call.cancel()
    for ended in told:
        assert ended.wait(max(0.1, begun + 30 - time.monotonic())), "a caller was never told"
    assert problems == []
    assert min(kinds.values()) > 20
    wait_until(lambda: in_flight(served) == 0, "requests are in flight for ever", 5)
    assert value(scrape(served.metrics_url), "tidegate_queue_rows") == 0


def start(served: Daemon, kind: str, number: int) -> tuple[Any, Callable[[Any], bool]]:
    """A call of a kind, and whether its outcome is what it has to be."""
    rows = np.full((number % 4 + 1, 3), number, np.float32)
    sent = time.monotonic()

    def timely(right: bool) -> bool:  # noqa: FBT001 -- what was found
        return right and time.monotonic() - sent < LATE_SECONDS

    match kind:
        case "wrong":
            call = served.stub.ModelInfer.future(raw_request("scaled", {"numeric": rows[:, :2]}), timeout=LATE_SECONDS)
            return call, lambda call: timely(call.code() is grpc.StatusCode.INVALID_ARGUMENT)
        case "expired":
            call = served.stub.ModelInfer.future(raw_request("scaled", {"numeric": rows}), timeout=1e-4)
            return call, lambda call: timely(call.code() in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.OK, UNREACHABLE})
        case "failing":
            call = served.stub.ModelInfer.future(raw_request("lookup", {"index": np.array([50], np.int64)}), timeout=LATE_SECONDS)
            return call, lambda call: timely(call.code() is grpc.StatusCode.INTERNAL)
        case "index":
            indexes = np.array([number % 10], np.int64)
            call = served.stub.ModelInfer.future(raw_request("lookup", {"index": indexes}), timeout=LATE_SECONDS)
            return call, lambda call: timely(call.code() is grpc.StatusCode.OK and raw_floats(call.result()).tolist() == [number % 10 * 10])
        case _:
            call = served.stub.ModelInfer.future(raw_request("scaled", {"numeric": rows}), timeout=LATE_SECONDS)
            if kind == "cancelled":
                return call, lambda call: call.cancelled() or bool((raw_floats(call.result()) == rows * 2).all())
            return call, lambda call: timely(call.code() is grpc.StatusCode.OK and bool((raw_floats(call.result()) == rows * 2).all()))


UNREACHABLE = grpc.StatusCode.RESOURCE_EXHAUSTED
"""A deadline that cannot be met is refused before it passes."""


def note(problems: list[str], kind: str, check: Callable[[Any], bool], ended: threading.Event, call: Any) -> None:
    try:
        if not check(call):
            problems.append(f"{kind}: {call.code()} {call.details()}")
    except Exception as error:  # noqa: BLE001 -- whatever it is, the test tells of it
        problems.append(f"{kind}: {error!r}")
    ended.set()
