"""ModelStreamInfer: answers in order, refusals that do not end it, and nothing left of a stream that is given up or never read."""

import queue
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.contracts.transport.calls import in_flight, raw_floats, raw_request
from tests.contracts.transport.wire import wire
from tests.daemons import Daemon, wait_until
from tests.exposition import scrape, value
from tidegate_protos import inference_pb2 as pb

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"
ROW = np.array([[1, 2, 3]], np.float32)


@pytest.fixture(autouse=True)
def nothing_left(served: Daemon) -> Iterator[None]:
    yield
    wait_until(lambda: in_flight(served) == 0, "requests are in flight for ever", 5)
    assert value(scrape(served.metrics_url), "tidegate_queue_rows") == 0
    assert "Traceback" not in served.program.log.read_text()
    assert "exc_info" not in served.program.log.read_text()


def numbered(number: int) -> pb.ModelInferRequest:
    """Every seventh has a wrong shape, every eleventh no such model, every thirteenth fails in the model."""
    if number % 13 == 0:
        return raw_request("lookup", {"index": np.array([99], np.int64)}, prediction_id=str(number))
    width = 4 if number % 7 == 0 else 3
    model = "nobody" if number % 11 == 0 else "scaled"
    return raw_request(model, {"numeric": np.full((number % 3 + 1, width), number, np.float32)}, prediction_id=str(number))


def is_right(number: int, answer: pb.ModelStreamInferResponse) -> bool:
    if number % 13 == 0:
        return "[INTERNAL]" in answer.error_message
    if number % 11 == 0:
        return "[NOT_FOUND]" in answer.error_message
    if number % 7 == 0:
        return "[INVALID_ARGUMENT]" in answer.error_message
    rows = raw_floats(answer.infer_response)
    return (
        not answer.error_message
        and answer.infer_response.id == str(number)
        and bool((rows == number * 2).all())
        and len(rows) == number % 3 + 1
    )


def test_thousands_of_requests_are_answered_in_order_and_refusals_do_not_end_the_stream(served: Daemon) -> None:
    numbers = range(1, 3001)
    answers = served.stub.ModelStreamInfer((numbered(number) for number in numbers), timeout=60)
    checked = [is_right(number, answer) for number, answer in zip(numbers, answers, strict=True)]
    assert len(checked) == 3000
    assert all(checked)


def test_stream_of_only_refusals_goes_on_to_its_end(served: Daemon) -> None:
    answers = list(served.stub.ModelStreamInfer((raw_request("nobody", {"numeric": ROW}) for _ in range(1000)), timeout=60))
    assert len(answers) == 1000
    assert all("[NOT_FOUND]" in answer.error_message for answer in answers)


def test_stream_without_a_request_ends_at_once(served: Daemon) -> None:
    assert list(served.stub.ModelStreamInfer(iter([]), timeout=5)) == []


def test_each_request_is_answered_before_the_next_is_sent(served: Daemon) -> None:
    requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    answers = served.stub.ModelStreamInfer(iter(requests.get, None), timeout=20)
    for number in (1, 2, 3):
        requests.put(numbered(number))
        assert is_right(number, next(answers))
    requests.put(None)
    assert list(answers) == []


def test_stream_of_triton_s_client(served: Daemon) -> None:
    results: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    tensor = triton.InferInput("numeric", [1, 3], "FP32")
    with triton.InferenceServerClient(served.address) as client:
        client.start_stream(lambda result, error: results.put((result, error)))
        for number in range(1, 41):
            tensor.set_data_from_numpy(np.full((1, 3), number, np.float32))
            client.async_stream_infer("nobody" if number == 5 else "scaled", [tensor], request_id=str(number))
        for number in range(1, 41):
            result, error = results.get(timeout=10)
            if number == 5:
                assert "no model 'nobody'" in str(error)
            else:
                assert error is None
                assert result.get_response().id == str(number)
                assert (result.as_numpy("scaled") == number * 2).all()
        client.stop_stream()


def test_half_closed_stream_is_answered_to_the_end(served: Daemon) -> None:
    with wire(served.address) as client:
        stream = client.open(PATH)
        for number in (1, 2, 3):
            client.message(stream, numbered(number).SerializeToString(), end=number == 3)
        client.flush()
        assert client.status(stream) == "0"
        data = client.data(stream)
    for number in (1, 2, 3):
        length = int.from_bytes(data[1:5])
        assert is_right(number, pb.ModelStreamInferResponse.FromString(data[5 : 5 + length]))
        data = data[5 + length :]
    assert not data


def test_streams_cancelled_at_random_leave_nothing(served: Daemon) -> None:
    generator = random.Random(4)  # noqa: S311 -- a seeded stress

    def endless() -> Iterator[pb.ModelInferRequest]:
        while True:
            yield raw_request("scaled", {"numeric": np.ones((50, 3), np.float32)})

    with grpc.insecure_channel(served.address) as channel:
        call = channel.stream_stream(PATH, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString)
        for _ in range(30):
            answers: Any = call(endless(), timeout=20)
            for _ in range(generator.randrange(20)):
                next(answers)
            answers.cancel()


def test_stream_that_is_never_read_is_no_longer_read_from_and_harms_nobody(served: Daemon) -> None:
    sent = 0
    unread = threading.Event()

    def endless() -> Iterator[pb.ModelInferRequest]:
        nonlocal sent
        while not unread.is_set():
            sent += 1
            yield raw_request("scaled", {"numeric": np.ones((5000, 3), np.float32)})

    with grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        answers: Any = channel.stream_stream(PATH, pb.ModelInferRequest.SerializeToString, bytes)(endless(), timeout=60)

        def stalled() -> bool:
            before = sent
            time.sleep(0.5)
            return sent == before

        wait_until(stalled, "the daemon goes on reading", 30)
        assert (raw_floats(served.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)) == ROW * 2).all()
        wait_until(lambda: in_flight(served) == 0, "what is not read counts as in flight, and keeps others out", 5)
        unread.set()
        answers.cancel()


def test_deadline_of_a_stream_ends_it_and_all_of_its_requests(served: Daemon) -> None:
    requests: queue.SimpleQueue[pb.ModelInferRequest | None] = queue.SimpleQueue()
    requests.put(numbered(1))
    answers = served.stub.ModelStreamInfer(iter(requests.get, None), timeout=0.7)
    assert is_right(1, next(answers))
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    requests.put(None)


def test_idle_reflection_streams_do_not_keep_others_from_reflection(served: Daemon) -> None:
    with wire(served.address) as idle:
        for _ in range(20):
            idle.open("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        idle.flush()
        idle.receive(0.5)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with grpc.insecure_channel(served.address) as channel:
            [answer] = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=5)
    assert "inference.GRPCInferenceService" in [service.name for service in answer.list_services_response.service]
