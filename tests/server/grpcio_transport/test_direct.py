"""Calls without a thread: each is answered or refused once, ended once, and no mistake of what answers them ends the server."""

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from server.errors import InputMismatchError
from server.grpcio_transport import direct
from server.grpcio_transport.calls import Handlers
from server.grpcio_transport.exchange import Exchange, Head
from tests.daemons import wait_until

WINDOW = 200_000
"""Bytes that more than fill the window of a caller that does not read."""


class Server:
    """A bare server with one method of each kind; tests decide what answers."""

    def __init__(self) -> None:
        self.exchanges: list[tuple[bytes, Exchange]] = []
        self.ended: list[bytes] = []
        self.begin: Callable[[bytes, Exchange], None] = self.keep
        """what tests change"""
        self.pushes: list[Callable[[bytes], None]] = []
        handlers = {
            "/t/unary": direct.handler(self._begin),
            "/t/stream": direct.stream_handler(self.admit, self._begin, bytes, lambda status: f"refused {status.code.name}".encode()),
            "/t/push": direct.push_handler(self.watch),
        }
        self.server = grpc.server(ThreadPoolExecutor(1))
        self.server.add_generic_rpc_handlers([Handlers(handlers)])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.use_local_subchannel_pool", 1)])

    def _begin(self, data: bytes, exchange: Exchange) -> None:
        self.begin(data, exchange)

    def admit(self, head: Head) -> None:
        if ("credentials", "bad") in [(key, value) for key, value in head.metadata]:
            raise InputMismatchError("not this")

    def keep(self, data: bytes, exchange: Exchange) -> None:
        exchange.on_end(lambda: self.ended.append(data))
        self.exchanges.append((data, exchange))

    def watch(self, data: bytes, tell: Callable[[bytes], None]) -> Callable[[], None]:
        if data == b"bad":
            raise InputMismatchError("bad")
        self.pushes.append(tell)
        tell(b"now")
        return lambda: self.ended.append(data)

    def call(self, kind: str) -> Any:
        kinds = {"unary": self.channel.unary_unary, "push": self.channel.unary_stream}
        return kinds.get(kind, self.channel.stream_stream)(f"/t/{kind}", bytes, bytes)

    @property
    def open_calls(self) -> int:
        return len(self.server._state.rpc_states)  # type: ignore[attr-defined]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.channel.close()
    assert made.server.stop(0.1).wait(5), "a call was never finished"
    assert made.open_calls == 0


def echo(data: bytes, exchange: Exchange) -> None:
    exchange.answer(data)


def test_answer_may_come_from_any_thread_and_late(server: Server) -> None:
    call = server.call("unary").future(b"x", timeout=5)
    wait_until(lambda: bool(server.exchanges), "it did not begin")
    threading.Thread(target=server.exchanges[0][1].answer, args=(b"y",)).start()
    assert call.result() == b"y"
    wait_until(lambda: server.open_calls == 0, "the call is kept")
    assert server.ended == [b"x"], "ended once"


def test_cancelled_call_ends_once_and_its_answer_does_nothing(server: Server) -> None:
    call = server.call("unary").future(b"x", timeout=5)
    wait_until(lambda: bool(server.exchanges), "it did not begin")
    call.cancel()
    wait_until(lambda: server.ended == [b"x"], "it did not end")
    server.exchanges[0][1].answer(b"late")
    server.exchanges[0][1].refuse(direct.DEFECT)
    told: list[str] = []
    server.exchanges[0][1].on_end(lambda: told.append("at once"))
    assert told == ["at once"], "who asks later is told at once"
    assert server.ended == [b"x"]


def test_deadline_ends_a_call(server: Server) -> None:
    with pytest.raises(grpc.RpcError):
        server.call("unary")(b"x", timeout=0.1)
    wait_until(lambda: server.ended == [b"x"], "it did not end")


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_cancellation_and_answer_may_race(server: Server, kind: str) -> None:
    with ThreadPoolExecutor(4) as pool:

        def answer(data: bytes, exchange: Exchange) -> None:
            exchange.on_end(lambda: server.ended.append(data))
            pool.submit(exchange.answer, data)

        server.begin = answer
        for number in range(500):
            call = server.call(kind)
            running = call.future(b"%d" % number, timeout=5) if kind == "unary" else call(iter([b"%d" % number]), timeout=5)
            if number % 3:
                time.sleep(number % 7 / 10_000)
            running.cancel()
    wait_until(lambda: server.open_calls == 0, "calls are kept")
    assert len(server.ended) == len(set(server.ended)), "none ended twice"


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_mistake_of_what_answers_refuses_one_call_and_the_next_is_answered(server: Server, kind: str) -> None:
    def fail(_: bytes, __: Exchange) -> None:
        raise ZeroDivisionError("a defect")

    server.begin = fail
    for _ in range(3):
        with contextlib.suppress(grpc.RpcError):
            answer = server.call(kind)(b"x", timeout=5) if kind == "unary" else list(server.call(kind)(iter([b"x"]), timeout=5))
            assert answer == [b"refused INTERNAL"]
    server.begin = echo
    assert server.call("unary")(b"x", timeout=5) == b"x"


def test_refused_stream_ends_before_its_first_message(server: Server) -> None:
    with pytest.raises(grpc.RpcError, match="not this") as caught:
        list(server.call("stream")(iter([b"x", b"y"]), timeout=5, metadata=(("credentials", "bad"),)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert server.exchanges == []


def test_answers_of_a_stream_come_in_the_order_of_its_requests(server: Server) -> None:
    answers = server.call("stream")(iter([b"1", b"2", b"3"]), timeout=5)
    wait_until(lambda: len(server.exchanges) == 3, "they did not begin")
    for data, exchange in reversed(server.exchanges):
        exchange.answer(data)
    assert list(answers) == [b"1", b"2", b"3"]
    assert server.ended == [], "what is answered does not end afterwards"


def test_cancelled_stream_ends_what_is_unanswered_and_nothing_else(server: Server) -> None:
    hold = threading.Event()

    def requests() -> Iterator[bytes]:
        yield from (b"1", b"2", b"3")
        hold.wait(5)

    answers = server.call("stream")(requests(), timeout=5)
    wait_until(lambda: len(server.exchanges) == 3, "they did not begin")
    server.exchanges[0][1].answer(b"1")
    assert next(answers) == b"1"
    answers.cancel()
    hold.set()
    wait_until(lambda: sorted(server.ended) == [b"2", b"3"], "they did not end")
    server.exchanges[1][1].answer(b"late")
    told: list[str] = []
    server.exchanges[2][1].on_end(lambda: told.append("at once"))
    assert told == ["at once"]


def test_only_so_many_requests_of_a_stream_are_read_before_they_are_answered(server: Server) -> None:
    answers = server.call("stream")((b"%d" % number for number in range(1000)), timeout=20)
    wait_until(lambda: len(server.exchanges) == direct.STREAM_WINDOW, "they did not begin")
    time.sleep(0.1)
    assert len(server.exchanges) == direct.STREAM_WINDOW
    begun, server.begin = server.exchanges[:], echo
    for data, exchange in begun:
        exchange.answer(data)
    assert list(answers) == [b"%d" % number for number in range(1000)]


def test_stream_cancelled_while_a_message_is_sent(server: Server) -> None:
    server.begin = lambda _, exchange: exchange.answer(b"y" * WINDOW)
    answers = server.call("stream")(iter([b"x"] * 100), timeout=5)
    next(answers)
    answers.cancel()
    wait_until(lambda: server.open_calls == 0, "the call is kept")


def test_slow_reader_of_pushes_gets_the_newest_and_holds_nobody_up(server: Server) -> None:
    pushed = server.call("push")(b"x", timeout=20)
    assert next(pushed) == b"now"
    begun = time.monotonic()
    for number in range(500):
        server.pushes[0](b"%d " % number + b"y" * WINDOW)
    assert time.monotonic() - begun < 2
    got = read_until(pushed, 499)
    assert got == sorted(got)
    assert len(got) < 500
    pushed.cancel()
    wait_until(lambda: server.ended == [b"x"], "it did not end")
    server.pushes[0](b"into the void")


def read_until(pushed: Iterator[bytes], last: int) -> list[int]:
    got: list[int] = []
    while not got or got[-1] != last:
        got.append(int(next(pushed).split()[0]))
    return got


def test_refused_push_has_its_status(server: Server) -> None:
    with pytest.raises(grpc.RpcError, match="bad") as caught:
        list(server.call("push")(b"bad", timeout=5))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_stop_ends_calls_that_nobody_answers(server: Server) -> None:
    pushed = server.call("push")(b"x", timeout=20)
    assert next(pushed) == b"now"
    calls = [server.call("unary").future(b"x", timeout=20), pushed, server.call("stream")(iter([b"x"]), timeout=20)]
    wait_until(lambda: len(server.exchanges) == 2, "they did not begin")
    assert server.server.stop(0.1).wait(5)
    assert len(server.ended) == 3
    assert {call.code() for call in calls} == {grpc.StatusCode.UNAVAILABLE}


@pytest.mark.parametrize("kind", ["unary", "stream", "push"])
def test_calls_leave_no_reference_cycles(server: Server, kind: str) -> None:
    def answer(data: bytes, exchange: Exchange) -> None:
        exchange.on_end(lambda: exchange.answer(b"late"))
        exchange.answer(data)

    server.begin = answer

    def once() -> None:
        if kind == "unary":
            server.call("unary")(b"x", timeout=5)
        elif kind == "stream":
            list(server.call("stream")(iter([b"x"] * 20), timeout=5))
        else:
            pushed = server.call("push")(b"x", timeout=5)
            next(pushed)
            pushed.cancel()

    once()
    wait_until(lambda: server.open_calls == 0, "the call is kept")
    server.pushes.clear()
    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            once()
        wait_until(lambda: server.open_calls == 0, "the calls are kept")
        server.pushes.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [found for found in gc.garbage if type(found).__module__.startswith("server.")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert ours == []
