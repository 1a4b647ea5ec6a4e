"""Which HTTP status every error has, and how it is written: RFC 9457 problems under /api, the protocol's `{"error": ...}` under /v2.

The tables are complete: a test walks the error trees of registry, control plane and SDK, and all of gRPC's statuses.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import grpc
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from control_plane import errors
from registry import errors as registry_errors
from registry.canonical import Json
from tidegate_client.errors import TidegateError

PROBLEM = "application/problem+json"
_TYPE = "urn:tidegate:problem:"
CLIENT_CLOSED_REQUEST = 499
"""What nginx logs for a caller that went away; HTTP itself has no status for it."""


@dataclass(frozen=True)
class Kind:
    """A kind of problem: HTTP status, the end of its type URN, and a title that never varies."""

    status: int
    name: str
    title: str


KINDS: Mapping[type[Exception], Kind] = {
    registry_errors.InvalidNameError: Kind(400, "name-not-allowed", "Name not allowed"),
    registry_errors.ModelUnknownError: Kind(404, "model-unknown", "No such model"),
    registry_errors.VersionUnknownError: Kind(404, "version-unknown", "No such version"),
    registry_errors.NotFoundError: Kind(404, "not-found", "Not in the registry"),
    registry_errors.RuleError: Kind(409, "refused-by-rule", "Refused by a rule"),
    registry_errors.ModelRefusedError: Kind(422, "model-refused", "The model is not let in"),
    registry_errors.ConflictError: Kind(409, "conflict", "Others kept committing"),
    registry_errors.FormatError: Kind(500, "registry-format", "The registry holds what this release cannot read"),
    registry_errors.CorruptError: Kind(500, "registry-corrupt", "The registry holds altered bytes"),
    registry_errors.SignatureError: Kind(500, "registry-signature", "The registry holds what nobody trusted signed"),
    registry_errors.KeyFileError: Kind(500, "key-file", "A key cannot be read"),
    registry_errors.NotARegistryError: Kind(503, "registry-missing", "The registry is not there"),
    registry_errors.StoreError: Kind(503, "registry-storage", "The registry's storage refused"),
    registry_errors.StorageFullError: Kind(507, "storage-full", "The registry's storage is full"),
    registry_errors.AccessDeniedError: Kind(503, "storage-access", "The registry's storage may not be used"),
    registry_errors.UnreachableError: Kind(503, "storage-unreachable", "The registry's storage does not answer"),
    registry_errors.OutcomeUnknownError: Kind(500, "outcome-unknown", "It is not known whether this was written"),
    registry_errors.RegistryError: Kind(500, "registry", "The registry failed"),
    errors.ParameterError: Kind(422, "parameter", "A parameter cannot be read"),
    errors.NotAcceptableError: Kind(406, "not-acceptable", "No acceptable representation"),
    errors.TensorError: Kind(400, "tensor", "The tensors are not what the protocol says"),
    errors.RequestError: Kind(400, "request", "The request is wrong"),
    errors.LogsOffError: Kind(409, "logs-off", "The logs are not known here"),
    errors.ScoreMissingError: Kind(409, "score-missing", "There is no score to judge"),
    errors.TooManyRowsError: Kind(422, "too-many-rows", "Too many rows at once"),
    errors.LogUnreadableError: Kind(500, "log-unreadable", "The logs cannot be read"),
    errors.QualityError: Kind(500, "quality", "The quality cannot be told"),
    errors.AnswerError: Kind(500, "answer", "The answer cannot be written as asked"),
    errors.SettingsError: Kind(500, "settings", "The settings are wrong"),
    errors.ControlPlaneError: Kind(500, "control-plane", "The control plane failed"),
}
"""Errors of the registry and of the control plane, by their exact class."""

GRPC: Mapping[grpc.StatusCode, int] = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: CLIENT_CLOSED_REQUEST,
    grpc.StatusCode.UNKNOWN: 500,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
"""What a daemon answered, or gRPC in its place."""


@dataclass(frozen=True)
class Fault:
    """One error answer, before it is known which of the two forms it takes."""

    kind: Kind
    detail: str
    reason: str = ""
    """for machines: the daemon's ErrorInfo reason, or the kind's name"""
    extra: Mapping[str, Json] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


def fault_of(error: Exception) -> Fault:
    """The answer to an error that a route raised; for what no table knows, a 500 that tells nothing."""
    if isinstance(error, TidegateError):
        return _daemon_fault(error)
    if isinstance(error, RequestValidationError):
        return _validation_fault(error)
    if isinstance(error, HTTPException):
        return _http_fault(error.status_code, str(error.detail), error.headers or {})
    kind = KINDS.get(type(error))
    if kind is None:
        return _http_fault(500, "the control plane failed on this request; its log says why", {})
    return Fault(kind, str(error), kind.name)


def write(fault: Fault, path: str) -> JSONResponse:
    """The response, in the form that belongs to `path`."""
    headers = dict(fault.headers)
    if path == "/v2" or path.startswith("/v2/"):
        return JSONResponse({"error": fault.detail, "reason": fault.reason}, fault.kind.status, headers)
    body: dict[str, Json] = {
        "type": _TYPE + fault.kind.name,
        "title": fault.kind.title,
        "status": fault.kind.status,
        "detail": fault.detail,
        "instance": path,
        **fault.extra,
    }
    return JSONResponse(body, fault.kind.status, headers, media_type=PROBLEM)


def install(app: FastAPI) -> None:
    """Answer every error that a route of `app` raises."""
    handled = (registry_errors.RegistryError, errors.ControlPlaneError, TidegateError, RequestValidationError, HTTPException, Exception)
    for error_type in handled:
        app.add_exception_handler(error_type, _answer)


def _answer(request: Request, error: Exception) -> JSONResponse:
    fault = fault_of(error)
    if fault.kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        structlog.get_logger().error("request failed", path=request.url.path, error=repr(error))
    return write(fault, request.url.path)


def _daemon_fault(error: TidegateError) -> Fault:
    # Without a status the SDK found the error itself: an answer that does not follow the protocol.
    status = HTTPStatus.BAD_GATEWAY if error.code is None else GRPC[error.code]
    code = "ANSWER" if error.code is None else error.code.name
    headers = {} if error.retry_after is None else {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    kind = Kind(status, "daemon-" + code.lower().replace("_", "-"), "The daemon refused or failed")
    reason = error.reason or code
    return Fault(kind, str(error), reason, {"reason": reason}, headers)


def _validation_fault(error: RequestValidationError) -> Fault:
    found = [_field(item) for item in error.errors()]
    kind = Kind(422, "fields", "Fields missing, unknown or wrong")
    return Fault(kind, "; ".join(f"{item['field']}: {item['message']}" for item in found), kind.name, {"errors": found})


def _field(item: Mapping[str, Any]) -> dict[str, str]:
    match item["type"]:
        case "json_invalid":
            return {"field": "body", "message": f"not JSON: {item['ctx']['error']}"}
        case "model_attributes_type":
            return {"field": "body", "message": "send a JSON object, with Content-Type: application/json"}
        case _:
            return {"field": ".".join(map(str, item["loc"])), "message": str(item["msg"])}


def _http_fault(status: int, detail: str, headers: Mapping[str, str]) -> Fault:
    title = HTTPStatus(status).phrase
    name = title.lower().replace(" ", "-")
    return Fault(Kind(status, name, title), detail, name, headers=headers)
