"""The load generator itself, against small real gRPC servers: what it reports must be what happened."""

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
from hyperframe.frame import SettingsFrame

from tests.load import h2load, loads, messages
from tests.load.loads import Closed, LoadError, Open, Outcome, Target
from tests.load.messages import PATH, framed
from tests.load.programs import GENERATOR

pytestmark = pytest.mark.skipif(
    not GENERATOR.exists(), reason="the load generator is not built; `make test` does that where there is cargo"
)

SERVICE, METHOD = PATH.strip("/").split("/")
MESSAGE = bytes(range(200))
QUICK = Open(rate=400, seconds=0.5, deadline=2.0, bodies=8)


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


def outcome_of(address: str, load: loads.Load, connections: int = 2) -> Outcome:
    return loads.run(Target(address, (MESSAGE,), (len(MESSAGE), len(MESSAGE)), connections=connections, in_flight=2 * connections), load)


@dataclass
class Slow:
    """Answers after so many seconds, and knows how many calls it had at once."""

    seconds: float
    most: int = 0
    running: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, data: bytes, _: grpc.ServicerContext) -> bytes:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(self.seconds)
        with self.lock:
            self.running -= 1
        return data


def echo(data: bytes, _: grpc.ServicerContext) -> bytes:
    return data[::-1]


def test_every_request_arrives_whole_with_its_deadline_and_every_answer_is_counted() -> None:
    with server(echo) as (address, seen):
        outcome = outcome_of(address, QUICK)
    assert 120 < outcome.offered < 290
    assert outcome.statuses == {"OK": outcome.offered}
    assert outcome.bodies == {framed(MESSAGE[::-1]): outcome.offered}
    assert seen.messages == [MESSAGE] * outcome.offered
    assert all(0 < remaining <= QUICK.deadline for remaining in seen.remaining)
    assert outcome.accepted.number == outcome.within == outcome.offered


def test_a_closed_loop_has_so_many_unanswered_and_counts_what_the_server_saw() -> None:
    slow = Slow(0.01)
    with server(slow) as (address, seen):
        outcome = outcome_of(address, Closed(seconds=0.5))
    assert slow.most == 4
    assert outcome.ok == outcome.sent == len(seen.messages)
    assert 0.01 <= outcome.accepted.mean < 0.1
    assert outcome.rate == pytest.approx(4 / outcome.accepted.mean, rel=0.3)


def test_answers_larger_than_a_frame_and_than_the_first_window_are_put_together() -> None:
    answer = bytes(300_000)
    with server(lambda _, __: answer) as (address, _):
        outcome = outcome_of(address, Open(rate=200, seconds=0.5, deadline=5.0, bodies=2))
    assert outcome.statuses == {"OK": outcome.offered}
    assert set(outcome.bodies) == {framed(answer)}
    assert outcome.shortest == outcome.longest == len(framed(answer))


def test_a_stall_is_in_the_latencies_of_all_who_came_meanwhile() -> None:
    lock, stalled = threading.Lock(), threading.Event()

    def stall_once(data: bytes, _: grpc.ServicerContext) -> bytes:
        with lock:
            if not stalled.is_set():
                stalled.set()
                time.sleep(0.4)
        return data

    with server(stall_once, threads=1) as (address, _):
        outcome = outcome_of(address, Open(rate=200, seconds=0.5, deadline=5.0))
    # A generator that waits for answers would have one slow request; here most of those meant for the first 0.4 s are.
    assert outcome.accepted.percentile(60) > 0.1
    assert outcome.accepted.percentile(100) >= 0.39


def test_refusals_and_failures_are_counted_by_their_status_and_are_no_answers() -> None:
    codes = [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAUTHENTICATED]
    turn = iter(range(1_000_000))

    def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
        number = next(turn)
        context.abort(codes[number % 3], f"refused for the {number}th time")
        raise AssertionError

    with server(refuse) as (address, _):
        outcome = outcome_of(address, QUICK)
    assert set(outcome.statuses) == {code.name for code in codes}
    assert sum(outcome.statuses.values()) == outcome.offered
    assert outcome.ok == outcome.within == 0
    assert outcome.refused.number == outcome.statuses["RESOURCE_EXHAUSTED"]
    assert not outcome.bodies


def test_a_stream_limit_is_obeyed_and_who_had_to_wait_for_it_has_waited() -> None:
    slow = Slow(0.03)
    with server(slow, (("grpc.max_concurrent_streams", 3),), threads=64) as (address, _):
        outcome = outcome_of(address, Open(rate=300, seconds=0.4, deadline=10.0))
    assert slow.most == 6
    assert outcome.ok == outcome.offered
    assert outcome.lateness.percentile(100) > 0.05


@contextmanager
def silent_server(streams: int) -> Iterator[str]:
    """Agrees on settings with two connections and never says another word."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as pool:
        limit = SettingsFrame(settings={SettingsFrame.MAX_CONCURRENT_STREAMS: streams})
        greeting = limit.serialize() + SettingsFrame(flags=["ACK"]).serialize()

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
        outcome = outcome_of(address, Open(rate=400, seconds=0.3, deadline=0.1))
    assert (outcome.sent, outcome.unanswered, outcome.held_back) == (6, 6, outcome.offered - 6)
    assert not outcome.statuses
    assert outcome.accepted.number == 0


def test_a_server_that_goes_away_leaves_requests_unanswered_and_nobody_hanging() -> None:
    with ThreadPoolExecutor(1) as pool:
        with server(echo) as (address, _):
            running = pool.submit(outcome_of, address, Open(rate=200, seconds=0.8, deadline=0.3))
            time.sleep(0.4)
        outcome = running.result(timeout=10)
    assert 0 < outcome.ok < outcome.offered
    assert outcome.ok < outcome.sent + outcome.held_back


def test_the_same_seed_offers_the_same_poisson_process() -> None:
    load = Open(rate=5_000, seconds=0.5, deadline=1.0)
    with server(echo) as (address, _):
        first, second = (outcome_of(address, load).offered for _ in range(2))
    assert first == second == pytest.approx(2_500, abs=6 * 2_500**0.5)


def test_a_rate_counts_only_if_everything_was_answered_as_it_should_be() -> None:
    with server(echo) as (address, _):
        target = Target(address, (MESSAGE,), (len(MESSAGE), len(MESSAGE)))
        assert loads.rate(target, 0.2).ok > 0
        with pytest.raises(LoadError, match="they should have"):
            loads.rate(Target(address, (MESSAGE,), (1, 2)), 0.2)


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
