"""Every error has an HTTP status, and both forms of writing it hold what a caller needs."""

import json
from collections.abc import Iterator
from typing import TypeVar

import pytest
from starlette.exceptions import HTTPException

from control_plane import errors
from control_plane.http_errors import GRPC, KINDS, fault_of, write
from registry import errors as registry_errors
from tidegate_client import errors as client_errors

E = TypeVar("E", bound=Exception)


def tree(root: type[E]) -> Iterator[type[E]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


def test_every_error_of_registry_and_control_plane_has_a_kind_of_its_own() -> None:
    assert set(KINDS) == {*tree(registry_errors.RegistryError), *tree(errors.ControlPlaneError)}
    assert len({kind.name for kind in KINDS.values()}) == len(KINDS)
    assert all(400 <= kind.status < 600 for kind in KINDS.values())


def test_every_error_of_the_sdk_has_a_status() -> None:
    codes = {error: code for code, error in client_errors.BY_CODE.items()}
    for error in set(tree(client_errors.TidegateError)) - {client_errors.TidegateError, client_errors.AnswerError}:
        assert fault_of(error("why", code=codes[error], reason="X")).kind.status == GRPC[codes[error]]
    assert fault_of(client_errors.AnswerError("why")).kind.status == 502


@pytest.mark.parametrize("path", ["/v2", "/v2/models/m/infer"])
def test_under_v2_an_error_is_the_protocols(path: str) -> None:
    answer = write(fault_of(errors.TensorError("too short")), path)
    assert (answer.status_code, answer.media_type) == (400, "application/json")
    assert json.loads(bytes(answer.body)) == {"error": "too short", "reason": "tensor"}


@pytest.mark.parametrize("path", ["/", "/v20", "/api/v1/models"])
def test_elsewhere_it_is_a_problem(path: str) -> None:
    answer = write(fault_of(registry_errors.RuleError("not twice")), path)
    assert (answer.status_code, answer.media_type) == (409, "application/problem+json")
    assert json.loads(bytes(answer.body)) == {
        "type": "urn:tidegate:problem:refused-by-rule",
        "title": "Refused by a rule",
        "status": 409,
        "detail": "not twice",
        "instance": path,
    }


def test_an_error_nobody_foresaw_tells_nothing_of_its_inside() -> None:
    fault = fault_of(RuntimeError("a secret"))
    assert fault.kind.status == 500
    assert "secret" not in fault.detail


def test_headers_of_http_errors_are_kept() -> None:
    assert write(fault_of(HTTPException(405, headers={"Allow": "GET"})), "/").headers["allow"] == "GET"
