# ruff: noqa: SLF001 -- see the docstring
"""Calls that take no thread: grpcio hands each message over as it comes, and the answer is sent by whichever thread has it.

grpcio's synchronous server parks a pooled thread on every call, which wakes three times before it answers; that is most of what a small
request costs (measured in `docs/decisions/0013`). An executor can be given to a method, and is called with all that the thread would have
needed: this one starts the same operations itself. That uses names of `grpc._server` that are not public, nowhere but here: `check` refuses
to start on a release that lacks them, and the contract tests hold every release that `pyproject.toml` lets in to the same behaviour.

What a message means is not known here: see `pipeline`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import grpc
import structlog
from grpc import _server
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from server import grpc_errors
from server.errors import RequestError, SettingsError
from server.grpcio_transport.exchange import Begin, Head

_NEEDED = (
    "_status",
    "_abort",
    "_possibly_finish_call",
    "_unary_response_in_pool",
    "_stream_response_in_pool",
    "_select_thread_pool_for_behavior",
    "_get_initial_metadata_operation",
    "_CANCELLED",
    "_CLOSED",
    "_OPEN",
)
_RECEIVE, _SEND = "tidegate_receive", "tidegate_send"
_NO_FLAGS = 0
STREAM_WINDOW = 64
"""Requests of one stream that may be unanswered; then no more is read from it, and HTTP/2 holds the caller back."""

Admit: TypeAlias = Callable[[Head], None]
"""Lets a call in, or raises a RequestError to refuse it."""
_Finished: TypeAlias = tuple[Any, Sequence[Callable[[], None]]]
"""What grpcio's serving thread wants back from the tag of an operation: the call, if it is over now, and what to call then."""

_log = structlog.get_logger("tidegate.transport")


def check() -> None:
    """Refuse to work with a grpcio that is not built as the ones known.

    Raises:
        SettingsError: naming the release and what it lacks.
    """
    if missing := [name for name in _NEEDED if not hasattr(_server, name)]:
        raise SettingsError(
            f"grpcio {grpc.__version__} is not a release this transport knows ({missing[0]} is missing): install one it names"
        )


def handler(begin: Begin, admit: Admit | None = None) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """A unary method whose messages go to `begin`.

    `admit` may refuse a call before its message is read, which costs less than refusing it afterwards.
    """

    def start(event: Any, state: Any) -> None:
        if admit is None or _admitted(admit, event, state):
            _receive(event, state, _Unary(event, state), begin)

    return grpc.unary_unary_rpc_method_handler(_behavior(start))


def stream_handler(
    admit: Admit, begin: Begin, wrap: Callable[[bytes], bytes], wrap_refusal: Callable[[grpc.Status], bytes]
) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """A method with a stream each way; every message goes to `begin`, answers come back in the order of the requests.

    `admit` may refuse the stream before its first message. `wrap` makes a message of the stream from an answer, `wrap_refusal` from a
    refusal: the stream itself goes on.
    """

    def start(event: Any, state: Any) -> None:
        if _admitted(admit, event, state):
            _Stream(event, state, begin, wrap, wrap_refusal).receive()

    return grpc.stream_stream_rpc_method_handler(_behavior(start))


def push_handler(watch: Callable[[bytes, Callable[[bytes], None]], Callable[[], None]]) -> "grpc.RpcMethodHandler[bytes, bytes]":
    """A method that answers its one message with many: `watch` gets the message and what sends, and returns what ends it.

    Sending never waits: where the caller reads more slowly than the answers change, it gets the newest.
    """

    def begin(message: bytes, push: "_Push") -> None:
        _on_end(push.state, watch(message, push.send))

    return grpc.unary_stream_rpc_method_handler(_behavior(lambda event, state: _receive(event, state, _Push(event, state), begin)))


def _behavior(start: Callable[[Any, Any], None]) -> Any:
    """What a method handler is made of: a function that is never called, as the executor it names begins each call by `start`."""

    def never(_: Any, __: grpc.ServicerContext) -> Any:
        raise NotImplementedError("the executor answers")

    never.experimental_thread_pool = _Direct(start)  # type: ignore[attr-defined]
    return never


def _admitted(admit: Admit, event: Any, state: Any) -> bool:
    try:
        admit(Head(event))
    except RequestError as error:
        _refuse(event, state, grpc_errors.status(error))
        return False
    return True


class _Direct(ThreadPoolExecutor):
    """No executor at all: `grpc` asks it for a thread for a call, and gets the call begun at once instead."""

    def __init__(self, start: Callable[[Any, Any], None]) -> None:
        super().__init__(1)  # starts no thread before the first task, and there is none
        self._start = start

    def submit(self, _run: Any, /, *args: Any, **_: Any) -> "Future[Any]":
        """Called by grpcio's serving thread, which holds the call's lock, with the arguments of `_server._unary_response_in_pool`."""
        _, event, state = args[:3]
        self._start(event, state)
        # No future: grpcio counts calls by it only if it was given a maximum, which is ours to keep.
        return None  # type: ignore[return-value]


class _Unary:
    __slots__ = ("_event", "_state", "head")

    def __init__(self, event: Any, state: Any) -> None:
        self._event = event
        self._state = state
        self.head = Head(event)

    def answer(self, data: bytes) -> None:
        _server._status(self._event, self._state, data)

    def refuse(self, status: grpc.Status) -> None:
        _refuse(self._event, self._state, status)

    def on_end(self, callback: Callable[[], None]) -> None:
        _on_end(self._state, callback)


class _Sender:
    """Sends one message at a time; guarded by the lock of the call."""

    def __init__(self, event: Any, state: Any) -> None:
        self._event = event
        self._state = state
        self.busy = False

    def send(self, data: bytes, sent: Callable[[], None]) -> None:
        """Begin to send, if it is not `busy`; `sent` is called, under the lock, when the next may be sent."""

        def done(_: Any) -> _Finished:
            with self._state.condition:
                self.busy = False
                finished: _Finished = _server._possibly_finish_call(self._state, _SEND)
                sent()
                return finished

        operations = [cygrpc.SendMessageOperation(data, _NO_FLAGS)]
        if self._state.initial_metadata_allowed:
            operations.insert(0, _server._get_initial_metadata_operation(self._state, None))
            self._state.initial_metadata_allowed = False
        self._event.call.start_server_batch(operations, done)
        self._state.due.add(_SEND)
        self.busy = True


class _Push:
    """Sends the newest of what it is given; `state.condition` guards it."""

    def __init__(self, event: Any, state: Any) -> None:
        self._event = event
        self.state = state
        self._next: bytes | None = None
        self._sender = _Sender(event, state)

    def send(self, data: bytes) -> None:
        with self.state.condition:
            self._next = data
            self._flush()

    def refuse(self, status: grpc.Status) -> None:
        _refuse(self._event, self.state, status)

    def _flush(self) -> None:
        if self._next is not None and not self._sender.busy and _is_open(self.state):
            self._sender.send(self._next, self._flush)
            self._next = None


def _receive(event: Any, state: Any, exchange: Any, begin: Callable[[bytes, Any], None]) -> None:
    """Have the one message of a call given to `begin`, with what answers it."""

    def received(message: bytes | None) -> _Finished:
        if message is not None:
            attempt(begin, message, exchange)
        with state.condition:
            if message is None and state.client is _server._OPEN:
                state.client = _server._CLOSED
                _refuse(event, state, _NO_MESSAGE)
            finished: _Finished = _server._possibly_finish_call(state, _RECEIVE)
            return finished

    _ask(event, state, received)


def _ask(event: Any, state: Any, received: Callable[[bytes | None], _Finished]) -> None:
    """Have the next message of a call given to `received`, or None if there is none."""
    event.call.start_server_batch(
        (cygrpc.ReceiveMessageOperation(_NO_FLAGS),), lambda message_event: received(message_event.batch_operations[0].message())
    )
    state.due.add(_RECEIVE)


class _Stream:
    """A stream in both directions. `_state.condition`, grpcio's lock of the call, guards it all."""

    def __init__(
        self, event: Any, state: Any, begin: Begin, wrap: Callable[[bytes], bytes], wrap_refusal: Callable[[grpc.Status], bytes]
    ) -> None:
        self._event = event
        self._state = state
        self._begin = begin
        self.wrap = wrap
        self.wrap_refusal = wrap_refusal
        self._unsent: deque[_Message] = deque()
        self._sender = _Sender(event, state)
        self._receiving = False
        self._half_closed = False
        self._over = False
        _on_end(state, self._ended)

    def receive(self) -> None:
        """Ask for the next message."""
        _ask(self._event, self._state, self._received)
        self._receiving = True

    def put(self, message: "_Message", data: bytes) -> None:
        """`data` answers `message`: send it when all before it are sent."""
        with self._state.condition:
            message.data, message.ended = data, None  # what would end it holds the message: no cycle is left
            self._flush()

    def on_end(self, message: "_Message", callback: Callable[[], None]) -> None:
        """Have `callback` called if the stream ends before `message` is answered."""
        with self._state.condition:
            if not self._over:
                message.ended = callback if message.data is None else None
                return
        callback()

    def _ended(self) -> None:
        with self._state.condition:
            self._over = True
            callbacks = [message.ended for message in self._unsent if message.ended]
            self._unsent.clear()
        for callback in callbacks:
            callback()

    def _received(self, data: bytes | None) -> _Finished:
        if data is not None:
            message = _Message(self, self._event)
            with self._state.condition:
                self._unsent.append(message)
            attempt(self._begin, data, message)
        with self._state.condition:
            finished: _Finished = _server._possibly_finish_call(self._state, _RECEIVE)
            # Not before: a refusal is put by the very call of `attempt` above, and must not ask for the next message while this one is due.
            self._receiving, self._half_closed = False, data is None
            self._flush()
            return finished

    def _flush(self) -> None:
        """Go on with whatever the stream waits for, if it is still open."""
        if not _is_open(self._state):
            return
        if not self._sender.busy and self._unsent and (data := self._unsent[0].data) is not None:
            self._unsent.popleft()
            self._sender.send(data, self._flush)
        if not self._receiving and not self._half_closed and len(self._unsent) < STREAM_WINDOW:
            self.receive()
        if self._half_closed and not self._unsent and not self._sender.busy:
            _server._status(self._event, self._state, None)


class _Message:
    """One request of a stream."""

    __slots__ = ("_stream", "data", "ended", "head")

    def __init__(self, stream: _Stream, event: Any) -> None:
        self._stream = stream
        self.ended: Callable[[], None] | None = None
        self.head = Head(event)
        self.data: bytes | None = None

    def answer(self, data: bytes) -> None:
        self._stream.put(self, self._stream.wrap(data))

    def refuse(self, status: grpc.Status) -> None:
        self._stream.put(self, self._stream.wrap_refusal(status))

    def on_end(self, callback: Callable[[], None]) -> None:
        self._stream.on_end(self, callback)


class _Refusal(grpc.Status):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details, self.trailing_metadata = code, details, ()


_NO_MESSAGE = _Refusal(grpc.StatusCode.UNIMPLEMENTED, "the call takes exactly one request message")
DEFECT = _Refusal(grpc.StatusCode.INTERNAL, "the daemon failed on this request; its log says how")


def attempt(begin: Callable[[bytes, Any], None], message: bytes, exchange: Any) -> None:
    """Give `message` to `begin`; whatever it raises refuses this one call, and goes no further."""
    try:
        begin(message, exchange)
    except RequestError as error:
        exchange.refuse(grpc_errors.status(error))
    except Exception:  # noqa: BLE001 -- a defect of ours must end one call and not the thread that serves all
        exchange.refuse(DEFECT)
        _log.exception("a request could not be begun")


def _is_open(state: Any) -> bool:
    return state.client is not _server._CANCELLED and not state.statused


def _refuse(event: Any, state: Any, status: grpc.Status) -> None:
    with state.condition:
        if state.statused:
            return
        state.code = status.code
        state.details = status.details.encode()
        state.trailing_metadata = status.trailing_metadata
        _server._abort(state, event.call, status.code.value[0], state.details)


def _on_end(state: Any, callback: Callable[[], None]) -> None:
    with state.condition:
        if state.callbacks is not None:
            state.callbacks.append(callback)
            return
    callback()
