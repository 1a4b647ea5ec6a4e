"""What a caller does never harms its neighbour in a batch."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from tests.contracts.transport.calls import raw_floats, raw_request, reason
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
