"""Every call the server answers, by its path: which code answers it, and on which thread. ModelInfer itself is in `pipeline`."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc

from server import reflection
from server.errors import QueueFullError
from server.grpcio_transport import direct
from server.grpcio_transport.auth import guarded
from server.grpcio_transport.exchange import Begin, Exchange
from server.grpcio_transport.pipeline import Pipeline
from server.guard import Guard
from server.health import SERVICE as HEALTH
from server.health import Health
from server.service import INFERENCE, Call
from tidegate_protos import inference_pb2 as pb

CONTROL_THREADS = 4
"""For the calls that are no inference: whatever they do, no inference waits for it."""
MAX_CONTROL_CALLS = 1000
"""Of those, so many may wait for a thread."""


class Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Finds what answers a call."""

    def __init__(self, methods: Mapping[str, Any]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of a path; None, which is UNIMPLEMENTED, if there is none."""
        return self._methods.get(handler_call_details.method)


class Control:
    """Runs calls on a few threads. One takes a thread once its message is there: who opens calls and sends nothing holds none up."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads
        self._room = threading.BoundedSemaphore(MAX_CONTROL_CALLS)

    def on_thread(self, call: Call) -> Begin:
        """What begins `call`."""

        def answer(data: bytes, exchange: Exchange) -> None:
            try:
                direct.attempt(_answering(call), data, exchange)
            finally:
                self._room.release()

        def begin(data: bytes, exchange: Exchange) -> None:
            if not self._room.acquire(blocking=False):
                raise QueueFullError("as many calls wait as may: try again later")
            self._threads.submit(answer, data, exchange)

        return begin


def methods(pipeline: Pipeline, health: Health, calls: Mapping[str, Call], control: Control, guard: Guard) -> dict[str, Any]:
    """What answers each path, behind its rule."""
    stream, reflect = f"/{INFERENCE}/ModelStreamInfer", reflection.PATH
    return {
        **{path: direct.handler(guarded(guard, path, control.on_thread(call))) for path, call in calls.items()},
        f"/{INFERENCE}/ModelInfer": direct.handler(pipeline.begin, pipeline.admit),
        stream: direct.stream_handler(partial(guard.check_stream, stream), pipeline.begin, _stream_answer, _stream_refusal),
        # Answered at once, whatever the other calls do: who asks ends the daemon if it does not answer.
        f"/{HEALTH}/Check": direct.handler(_answering(health.check)),
        f"/{HEALTH}/Watch": direct.push_handler(health.watch),
        reflect: direct.stream_handler(
            partial(guard.check_stream, reflect),
            guarded(guard, reflect, control.on_thread(reflection.answering())),
            bytes,
            _reflection_refusal,
        ),
    }


def _answering(call: Call) -> Begin:
    def begin(data: bytes, exchange: Exchange) -> None:
        exchange.answer(call(data))

    return begin


def _stream_answer(data: bytes) -> bytes:
    return pb.ModelStreamInferResponse(infer_response=pb.ModelInferResponse.FromString(data)).SerializeToString()


def _stream_refusal(status: grpc.Status) -> bytes:
    return pb.ModelStreamInferResponse(error_message=f"[{status.code.name}] {status.details}").SerializeToString()


def _reflection_refusal(status: grpc.Status) -> bytes:
    return reflection.refusal(status.code.value[0], status.details)
