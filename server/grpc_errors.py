"""Which gRPC status each error of the daemon has, with its details. The table is complete: a test walks the tree of `server.errors`."""

from functools import lru_cache
from typing import TYPE_CHECKING

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from server import errors

if TYPE_CHECKING:
    from google.protobuf.message import Message

DOMAIN = "tidegate"
MAX_TEXT_BYTES = 1024
"""Of the text of a status: it travels twice in the metadata, and a caller whose limit it exceeds sees only that, and not the reason."""

STATUS: dict[type[errors.RequestError], grpc.StatusCode] = {
    errors.ModelUnknownError: grpc.StatusCode.NOT_FOUND,
    errors.VersionUnknownError: grpc.StatusCode.NOT_FOUND,
    errors.InputMismatchError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.QueueFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineUnreachableError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.RateLimitedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.CancelledError: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ModelLoadingError: grpc.StatusCode.UNAVAILABLE,
    errors.DrainingError: grpc.StatusCode.UNAVAILABLE,
    errors.ModelFailedError: grpc.StatusCode.INTERNAL,
    errors.FeedbackOffError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.FeedbackNotStoredError: grpc.StatusCode.UNAVAILABLE,
}


def status(error: errors.RequestError) -> grpc.Status:
    """The status of an answer: code, text, ErrorInfo, and RetryInfo where trying again is sensible."""
    return _status(STATUS[type(error)], error.reason, _cut(str(error)), error.retry_seconds)


@lru_cache(maxsize=256)
def _status(code: grpc.StatusCode, reason: str, text: str, retry_seconds: float | None) -> grpc.Status:
    # Remembered: under overload the same refusal goes out thousands of times a second, and this is most of what it costs. Of a text that
    # is cut already: a caller may have it quote a name of many megabytes.
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN)]
    if retry_seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_seconds * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = [any_pb2.Any() for _ in details]
    for anything, detail in zip(packed, details, strict=True):
        anything.Pack(detail)
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=text, details=packed))


def _cut(text: str) -> str:
    encoded = text.encode(errors="replace")
    if len(encoded) <= MAX_TEXT_BYTES:
        return encoded.decode()
    return encoded[: MAX_TEXT_BYTES - 4].decode(errors="ignore") + " ..."
