"""Errors, retries and deadlines of both clients, against a server that refuses for real."""

import asyncio
import socket
import threading
import time
from typing import Any

import grpc
import pytest

from tests.clients.python.conftest import Twin
from tests.clients.python.stranger import Refusal, Stranger, serving
from tidegate_client import (
    AsyncClient,
    CallCancelledError,
    Client,
    DeadlineError,
    InputError,
    OverloadedError,
    TidegateError,
    UnavailableError,
)
from tidegate_client.errors import BY_CODE

ROWS = [{"income": 1.0, "loan": 2.0, "purpose": "car"}]
QUEUE_FULL = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", "QUEUE_FULL", 0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("code", BY_CODE, ids=lambda code: code.name)
def test_every_status_arrives_as_its_class(kind: str, stranger: Stranger, code: grpc.StatusCode) -> None:
    stranger.refusals.extend([Refusal(code, "two\nlines", "WHY", 0.25)] * 2)
    with Twin(kind, stranger.address, max_retries=0) as client, pytest.raises(TidegateError) as caught:
        client.predict("credit", ROWS)
    error = caught.value
    assert type(error) is BY_CODE[code]
    assert (error.code, error.reason, error.retry_after, str(error)) == (code, "WHY", 0.25, "two lines")


@pytest.mark.parametrize("refusal", [QUEUE_FULL, Refusal(grpc.StatusCode.UNAVAILABLE, "loading", "MODEL_LOADING", 0.2)])
def test_what_was_refused_unprocessed_is_tried_again_with_the_same_id(client: Any, stranger: Stranger, refusal: Refusal) -> None:
    stranger.refusals.extend([refusal] * 2)
    answer = client.predict("credit", ROWS)
    assert [request.id for request in stranger.inferences] == [answer.id] * 3
    assert answer.id
    # One deadline, not one for each attempt. gRPC sends it rounded to about one part in a hundred.
    assert stranger.remaining[2] < stranger.remaining[0] - 0.3


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "message too large"),
        Refusal(grpc.StatusCode.INTERNAL, "failed", "MODEL_FAILED", 0.01),
        Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "too late"),
        Refusal(grpc.StatusCode.ABORTED, "aborted", "", 0.01),
    ],
)
def test_what_may_have_been_worked_on_is_not_tried_again(client: Any, stranger: Stranger, refusal: Refusal) -> None:
    stranger.refusals.append(refusal)
    with pytest.raises(BY_CODE[refusal.code]):
        client.predict("credit", ROWS)
    assert len(stranger.inferences) == 1


def test_retries_end(kind: str, stranger: Stranger) -> None:
    stranger.refusals.extend([QUEUE_FULL] * 9)
    with Twin(kind, stranger.address, max_retries=2) as client, pytest.raises(OverloadedError):
        client.predict("credit", ROWS)
    assert len(stranger.inferences) == 3


def test_a_pause_beyond_the_deadline_is_not_waited_for(client: Any, stranger: Stranger) -> None:
    stranger.refusals.append(Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later", "DEADLINE_UNREACHABLE", 5.0))
    start = time.monotonic()
    with pytest.raises(OverloadedError) as caught:
        client.predict("credit", ROWS, timeout=2.0)
    assert caught.value.reason == "DEADLINE_UNREACHABLE"
    assert time.monotonic() - start < 1.5
    assert len(stranger.inferences) == 1


def test_a_deadline_is_always_set_and_kept(client: Any, stranger: Stranger) -> None:
    client.predict("credit", ROWS)
    assert 9 < stranger.remaining[0] < 10.2
    stranger.delay = 1.0
    start = time.monotonic()
    with pytest.raises(DeadlineError):
        client.predict("credit", ROWS, timeout=0.2)
    assert time.monotonic() - start < 0.8


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan")])
def test_a_timeout_that_is_none_is_refused(client: Any, timeout: float) -> None:
    with pytest.raises(InputError, match="timeout"):
        client.live(timeout=timeout)


def test_nobody_there_is_one_line_with_the_address(kind: str) -> None:
    address = f"127.0.0.1:{_free_port()}"
    with Twin(kind, address, max_retries=1) as client:
        assert (client.live(), client.ready()) == (False, False)
        with pytest.raises(UnavailableError) as caught:
            client.predict("credit", ROWS)
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_server_that_starts_late_is_found_within_the_deadline(kind: str, stranger: Stranger) -> None:
    port = _free_port()
    late = Stranger(stranger.models, stranger.route)
    stop = threading.Event()

    def start() -> None:
        time.sleep(0.4)
        with serving(late, port):
            stop.wait(20)

    thread = threading.Thread(target=start)
    thread.start()
    try:
        with Twin(kind, f"127.0.0.1:{port}", max_retries=20) as client:
            assert client.predict("credit", ROWS).version == "1"
    finally:
        stop.set()
        thread.join()


def test_an_url_and_a_negative_number_of_retries_are_refused() -> None:
    for build in (Client, AsyncClient):
        for address in ("http://127.0.0.1:8001", "", "127.0.0.1", ":8001", "127.0.0.1:65536", "127.0.0.1:99999", "a b:1"):
            with pytest.raises(InputError, match="HOST:PORT"):
                build(address)
        for address in ("localhost:8001", "[::1]:8001", "dns:///models.example:8001", "unix:/tmp/tidegate.sock"):
            assert build(address)
        with pytest.raises(InputError, match="max_retries"):
            build(max_retries=-1)


def test_a_closed_client_says_so(client: Any) -> None:
    client.close()
    with pytest.raises(CallCancelledError, match="closed"):
        client.live()


def test_cancelling_a_task_cancels_the_call_and_stays_a_cancellation(stranger: Stranger) -> None:
    stranger.delay = 0.5

    async def cancel_midway() -> None:
        async with AsyncClient(stranger.address) as client:
            task = asyncio.create_task(client.predict("credit", ROWS))
            await asyncio.to_thread(stranger.arrived.wait, 5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancel_midway())
    assert stranger.cancelled.wait(5)


def test_one_client_serves_many_threads(stranger: Stranger) -> None:
    with Client(stranger.address) as client:
        answers: list[float] = []

        def work(value: float) -> None:
            answer = client.predict("credit", [{**ROWS[0], "income": value}])
            answers.append(float(answer["numeric"][0, 0]))

        threads = [threading.Thread(target=work, args=(float(i),)) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [float(i) for i in range(16)]
