"""The error tree of the client, and how a gRPC status becomes one of it. What is tried again after an error stands in `retries`.

TidegateError
├── InputError            the data do not fit the model: found here (`code` is None), or by the server
├── AnswerError           what came back does not follow the protocol
├── NotFoundError         no such model, version or stage
├── AccessError           no or bad credentials, or not allowed
├── DeadlineError         the time given to the call passed; a TimeoutError too
├── OverloadedError       refused before it was looked at: queue full, rate limited, message too large
├── UnavailableError      nobody answers there, or the model is loading or draining
├── ConflictError         what was asked does not go with the present state of the server
├── UnsupportedError      the server does not have this call
├── CallCancelledError    the call was cancelled on the way
└── ServerError           the server or the model failed on this request
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

Metadata: TypeAlias = Iterable[Any]
"""(key, value) pairs; grpc and grpc.aio have a type of their own each."""

_STATUS_DETAILS = "grpc-status-details-bin"


class TidegateError(Exception):
    """Whatever goes wrong between a caller and the server; its text is one line that says what to do."""

    def __init__(self, message: str, *, code: grpc.StatusCode | None = None, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code
        """The gRPC status, or None if the error was found without asking the server."""
        self.reason = reason
        """The reason the server gave for machines to read (`QUEUE_FULL`, `INPUT_MISMATCH` ...), or an empty string."""
        self.retry_after = retry_after
        """Seconds after which the server asks to be tried again; None if it does not."""


class InputError(TidegateError):
    """The data, or another argument, do not fit."""


class AnswerError(TidegateError):
    """What came back does not follow the protocol."""


class NotFoundError(TidegateError):
    """No such model, version or stage."""


class AccessError(TidegateError):
    """No credentials, bad ones, or not allowed."""


class DeadlineError(TidegateError, TimeoutError):
    """The time given to the call passed without an answer."""


class OverloadedError(TidegateError):
    """Refused before it was looked at: queue full, rate limited, message too large."""


class UnavailableError(TidegateError):
    """Nobody answers at this address, or the model is loading or draining."""


class ConflictError(TidegateError):
    """What was asked does not go with the present state of the server."""


class UnsupportedError(TidegateError):
    """The server does not have this call."""


class CallCancelledError(TidegateError):
    """The call was cancelled on the way."""


class ServerError(TidegateError):
    """The server or the model failed on this request."""


BY_CODE: Mapping[grpc.StatusCode, type[TidegateError]] = MappingProxyType(
    {
        grpc.StatusCode.CANCELLED: CallCancelledError,
        grpc.StatusCode.UNKNOWN: ServerError,
        grpc.StatusCode.INVALID_ARGUMENT: InputError,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
        grpc.StatusCode.NOT_FOUND: NotFoundError,
        grpc.StatusCode.ALREADY_EXISTS: ConflictError,
        grpc.StatusCode.PERMISSION_DENIED: AccessError,
        grpc.StatusCode.UNAUTHENTICATED: AccessError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
        grpc.StatusCode.FAILED_PRECONDITION: ConflictError,
        grpc.StatusCode.ABORTED: ConflictError,
        grpc.StatusCode.OUT_OF_RANGE: InputError,
        grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
        grpc.StatusCode.INTERNAL: ServerError,
        grpc.StatusCode.UNAVAILABLE: UnavailableError,
        grpc.StatusCode.DATA_LOSS: ServerError,
    }
)
"""Every status but OK."""


def from_status(code: grpc.StatusCode, details: str, metadata: Metadata, address: str) -> TidegateError:
    """The error that a status is.

    `metadata` are the trailing metadata of the call. The text names `address` where the server itself had no reason to give, since then the
    words are gRPC's.
    """
    reason, retry_after = _details(metadata)
    text = details or f"the call failed with status {code.name} and no explanation"
    return BY_CODE[code](text if reason else f"{address}: {text}", code=code, reason=reason, retry_after=retry_after)


def _details(metadata: Metadata) -> tuple[str, float | None]:
    reason, retry_after = "", None
    for detail in _status(metadata).details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            retry_after = max(0.0, retry.retry_delay.ToTimedelta().total_seconds())
    return reason, retry_after


def _status(metadata: Metadata) -> status_pb2.Status:
    raw = next((value for key, value in metadata if key == _STATUS_DETAILS), b"")
    try:
        return status_pb2.Status.FromString(raw)
    except (DecodeError, TypeError):
        return status_pb2.Status()  # malformed details must not hide the error they came with
