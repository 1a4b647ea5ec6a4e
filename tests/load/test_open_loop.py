"""The load generator itself, against a small real gRPC server: what it reports must be what happened."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
from hpack import Decoder, Encoder, HeaderTuple
from hypothesis import given
from hypothesis import strategies as st

from tests.load import h2load, http2, messages, open_loop
from tests.load.h2load import LoadError
from tests.load.http2 import StatusReader
from tests.load.messages import PATH, framed
from tests.load.open_loop import Load

SERVICE, METHOD = PATH.strip("/").split("/")
MESSAGE = bytes(range(200))
QUICK = Load(rate=400, seconds=0.5, deadline=2.0, connections=2)


@dataclass
class Seen:
    """What the server was asked: messages, and the time each caller still gave it, in seconds."""

    messages: list[bytes] = field(default_factory=list)
    remaining: list[float] = field(default_factory=list)


@contextmanager
def server(
    behave: Callable[[bytes, grpc.ServicerContext], bytes], options: tuple[tuple[str, int], ...] = (), threads: int = 8
) -> Iterator[tuple[str, Seen]]:
    seen = Seen()

    def infer(data: bytes, context: grpc.ServicerContext) -> bytes:
        seen.messages.append(data)
        seen.remaining.append(context.time_remaining() or 0.0)
        return behave(data, context)

    made = grpc.server(ThreadPoolExecutor(threads), options=list(options))
    handlers = {METHOD: grpc.unary_unary_rpc_method_handler(infer)}
    made.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = made.add_insecure_port("127.0.0.1:0")
    made.start()
    try:
        yield f"127.0.0.1:{port}", seen
    finally:
        made.stop(0).wait()


def echo(data: bytes, _: grpc.ServicerContext) -> bytes:
    return data[::-1]


def test_every_request_arrives_whole_with_its_deadline_and_every_answer_is_counted() -> None:
    with server(echo) as (address, seen):
        outcome = open_loop.run(address, http2.template(PATH, MESSAGE), QUICK)
    number = len(outcome.status)
    assert 120 < number < 290
    assert outcome.by_status == {"OK": number}
    assert outcome.bodies == {framed(MESSAGE[::-1]): number}
    assert seen.messages == [MESSAGE] * number
    assert all(0 < remaining <= QUICK.deadline for remaining in seen.remaining)
    assert outcome.goodput == pytest.approx(number / QUICK.seconds)
    assert (outcome.answered >= outcome.sent).all()
    assert (outcome.sent >= outcome.intended).all()


def test_answers_larger_than_a_frame_and_than_the_first_window_are_put_together() -> None:
    answer = bytes(300_000)
    with server(lambda _, __: answer) as (address, _):
        outcome = open_loop.run(address, http2.template(PATH, MESSAGE), Load(rate=200, seconds=0.5, deadline=5.0, connections=2))
    assert outcome.by_status == {"OK": len(outcome.status)}
    assert set(outcome.bodies) == {framed(answer)}


def test_a_stall_is_in_the_latencies_of_all_who_came_meanwhile() -> None:
    lock, stalled = threading.Lock(), threading.Event()

    def stall_once(data: bytes, _: grpc.ServicerContext) -> bytes:
        with lock:
            if not stalled.is_set():
                stalled.set()
                time.sleep(0.4)
        return data

    with server(stall_once, threads=1) as (address, _):
        outcome = open_loop.run(address, http2.template(PATH, MESSAGE), Load(rate=200, seconds=0.5, deadline=5.0))
    # A generator that waits for answers would have one slow request; here most of those meant for the first 0.4 s are.
    assert (outcome.accepted > 0.1).mean() > 0.4
    assert open_loop.percentiles(outcome.accepted)[100.0] >= 0.4


def test_refusals_and_failures_are_counted_by_their_status_and_are_no_answers() -> None:
    codes = [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAUTHENTICATED]
    turn = iter(range(1_000_000))

    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        number = next(turn)
        context.abort(codes[number % 3], f"refused for the {number}th time")
        raise AssertionError

    with server(refuse) as (address, _):
        outcome = open_loop.run(address, http2.template(PATH, MESSAGE), QUICK)
    assert set(outcome.by_status) == {code.name for code in codes}
    assert sum(outcome.by_status.values()) == len(outcome.status)
    assert outcome.ok == 0
    assert len(outcome.refused) == outcome.by_status["RESOURCE_EXHAUSTED"]
    assert not outcome.bodies


def test_a_stream_limit_is_obeyed_and_who_had_to_wait_for_it_has_waited() -> None:
    running, most = [0], [0]
    lock = threading.Lock()

    def slow(data: bytes, _: grpc.ServicerContext) -> bytes:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.03)
        with lock:
            running[0] -= 1
        return data

    load = Load(rate=300, seconds=0.4, deadline=10.0, connections=2)
    with server(slow, (("grpc.max_concurrent_streams", 3),), threads=64) as (address, _):
        outcome = open_loop.run(address, http2.template(PATH, MESSAGE), load)
    assert most[0] == 6
    assert outcome.ok == len(outcome.status)
    assert outcome.lateness.max() > 0.05
    assert (outcome.accepted >= outcome.lateness).all()


@contextmanager
def silent_server(streams: int) -> Iterator[str]:
    """Agrees on settings with two connections and never says another word."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        limit = http2.SETTING.pack(http2.MAX_CONCURRENT_STREAMS, streams)
        greeting = http2.frame(http2.SETTINGS, 0, 0, limit) + http2.frame(http2.SETTINGS, http2.ACK, 0, b"")

        def greet() -> list[socket.socket]:
            accepted = []
            for _ in range(2):
                accepted.append(listener.accept()[0])
                accepted[-1].sendall(greeting)
            return accepted

        greeted = pool.submit(greet)
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        for connection in greeted.result():
            connection.close()


def test_what_cannot_be_sent_before_its_deadline_is_held_back() -> None:
    with silent_server(streams=3) as address:
        load = Load(rate=400, seconds=0.3, deadline=0.1, connections=2)
        outcome = open_loop.run(address, http2.template(PATH, MESSAGE), load)
    assert outcome.by_status == {"UNANSWERED": 6, "HELD_BACK": len(outcome.status) - 6}
    assert np.isnan(outcome.sent).sum() == len(outcome.status) - 6
    assert np.isnan(outcome.answered).all()
    assert open_loop.percentiles(outcome.accepted)[99.0] != 0


def test_a_server_that_goes_away_leaves_requests_unanswered_and_nobody_hanging() -> None:
    load = Load(rate=200, seconds=0.8, deadline=0.3)
    with ThreadPoolExecutor(1) as pool:
        with server(echo) as (address, _):
            running = pool.submit(open_loop.run, address, http2.template(PATH, MESSAGE), load)
            time.sleep(0.4)
        outcome = running.result(timeout=10)
    assert 0 < outcome.ok < len(outcome.status)
    assert outcome.by_status["HELD_BACK"] > 0
    assert sum(outcome.by_status.values()) == len(outcome.status)


def test_the_schedule_is_a_poisson_process_that_a_seed_repeats() -> None:
    load = Load(rate=5_000, seconds=4.0, deadline=1.0)
    times = load.schedule()
    assert (times == load.schedule()).all()
    assert len(times) == pytest.approx(20_000, abs=6 * 20_000**0.5)
    assert times[-1] < load.seconds
    gaps = np.diff(times)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


@given(st.integers(0, 16), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60), st.booleans(), st.binary(max_size=40))
def test_the_status_read_quickly_is_the_status_decoded(status: int, text: str, huffman: bool, details: bytes) -> None:  # noqa: FBT001
    headers = [(b"content-type", b"application/grpc"), (b"grpc-message", text.encode()), (b"grpc-status", str(status).encode())]
    headers.append((b"grpc-status-details-bin", details.hex().encode()))
    encoder = Encoder()
    encoder.header_table_size = 0
    block = encoder.encode([HeaderTuple(name, value) for name, value in headers], huffman=huffman)
    assert dict(Decoder().decode(block, raw=True))[b"grpc-status"] == str(status).encode()
    assert StatusReader().status(block) == status


@given(st.lists(st.floats(0.0, 98.0), min_size=1, max_size=5), st.integers(0, 1 << 29))
def test_a_copy_of_a_request_differs_in_its_streams_and_its_timeout_alone(timeouts: list[float], first: int) -> None:
    request = http2.template(PATH, MESSAGE)
    copies = request.copies(first, np.array(timeouts))
    size = len(request.frames)
    assert len(copies) == size * len(timeouts)
    for place, timeout in enumerate(timeouts):
        copy = copies[place * size : (place + 1) * size]
        length = int.from_bytes(copy[:3], "big")
        stream = (2 * (first + place) + 1).to_bytes(4, "big")
        assert copy[5:9] == copy[9 + length + 5 : 9 + length + 9] == stream
        headers = dict(Decoder().decode(copy[9 : 9 + length], raw=True))
        assert headers[b":path"] == PATH.encode()
        assert headers[b"grpc-timeout"] == b"%08du" % int(timeout * 1e6)
        assert copy.endswith(framed(MESSAGE))


def test_h2load_is_believed_only_if_every_answer_has_the_bytes_of_one() -> None:
    printed = (
        "finished in 1.25s, 4000.00 req/s, 629.17KB/s\n"
        "requests: 5000 total, 5000 started, 5000 done, {} succeeded, 0 failed, 0 errored, 0 timeout\n"
        "traffic: 782.78KB (801563) total, 14.94KB (15300) headers (space savings 96.22%), 512.70KB ({}) data\n"
    )
    assert h2load.parse(printed.format(5000, 525_000), 5000, 100, 0.5) == h2load.Measured(5000, 1.25, 0.5)
    for succeeded, received in ((4999, 525_000), (5000, 524_895)):
        with pytest.raises(LoadError, match="each should have 100 and 5"):
            h2load.parse(printed.format(succeeded, received), 5000, 100, 0.5)
    with pytest.raises(LoadError, match="could not connect"):
        h2load.parse("could not connect to host", 5000, 100, 0.5)


def test_the_request_of_the_load_is_one_the_protocol_knows() -> None:
    from tidegate_protos import inference_pb2 as pb  # noqa: PLC0415

    rows = messages.rows(3)
    request = pb.ModelInferRequest.FromString(messages.request("m", rows, prediction_id="x"))
    assert (request.model_name, request.id, request.inputs[0].name, list(request.inputs[0].shape)) == ("m", "x", "numeric", [3, 20])
    assert (np.frombuffer(request.raw_input_contents[0], np.float32).reshape(3, 20) == rows).all()
