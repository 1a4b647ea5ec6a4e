"""The Open Inference Protocol's REST calls, as stock clients send them, against a daemon of the protocol."""

import json
import re
import struct
from pathlib import Path

import grpc
import httpx
import pytest

from clients.demo.programs import running
from control_plane.http_errors import GRPC
from registry.location import create_registry
from tests.control_plane.conftest import Control
from tests.control_plane.oip_server import REASON, STATUSES, echo_server

LENGTH = "Inference-Header-Content-Length"
X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}


def test_health_and_metadata_are_the_daemons(control: Control) -> None:
    http = control.http
    assert http.get("/v2").json() == {"name": "echo", "version": "1", "extensions": ["model_repository", "binary_tensor_data"]}
    assert http.get("/v2/health/live").json() == {"live": True}
    assert http.get("/v2/health/ready").json() == {"ready": True}
    assert http.get("/v2/models/m/ready").json() == {"name": "m", "ready": True}
    asleep = http.get("/v2/models/asleep/versions/3/ready")
    assert (asleep.status_code, asleep.json()["ready"]) == (503, False)
    assert http.get("/v2/models/m/versions/staging").json() == {
        "name": "m",
        "versions": ["staging"],
        "platform": "echo",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [],
        "properties": {"key": "value"},
    }


def test_json_in_json_out(control: Control) -> None:
    body = {"id": "abc", "parameters": {"tidegate_routing_key": "u1"}, "inputs": [{**X, "parameters": {"a": 1}}]}
    answer = control.http.post("/v2/models/m/versions/3/infer", json=body)
    assert answer.headers["content-type"] == "application/json"
    assert LENGTH not in answer.headers
    assert answer.json() == {
        "model_name": "m",
        "model_version": "3",
        "id": "abc",
        "parameters": {"tidegate_routing_key": "u1"},
        "outputs": [{**X, "parameters": {"a": 1}}],
    }


def test_the_bytes_of_tritons_http_client_are_answered_as_it_expects(control: Control) -> None:
    """What `tritonclient.http` puts on the wire for two binary inputs and one output asked for in binary, one in JSON."""
    numbers, words = struct.pack("<2f", 1.5, -2.0), b"\x02\x00\x00\x00ab\x00\x00\x00\x00"
    text = json.dumps(
        {
            "id": "1",
            "inputs": [
                {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(numbers)}},
                {"name": "w", "shape": [2], "datatype": "BYTES", "parameters": {"binary_data_size": len(words)}},
            ],
            "outputs": [{"name": "x", "parameters": {"binary_data": True}}, {"name": "w", "parameters": {"binary_data": False}}],
        }
    ).encode()
    headers = {LENGTH: str(len(text)), "Content-Type": "application/octet-stream"}
    answer = control.http.post("/v2/models/m/infer", content=text + numbers + words, headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream")
    end = int(answer.headers[LENGTH])
    first, second = json.loads(answer.content[:end])["outputs"]
    assert first == {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    assert second == {"name": "w", "datatype": "BYTES", "shape": [2], "data": ["ab", ""]}
    assert answer.content[end:] == numbers


def test_all_outputs_may_be_asked_for_in_binary_at_once(control: Control) -> None:
    """`tritonclient.http` does so when no outputs are named."""
    answer = control.http.post("/v2/models/m/infer", json={"parameters": {"binary_data_output": True}, "inputs": [X]})
    assert answer.content[int(answer.headers[LENGTH]) :] == struct.pack("<2f", 1.5, -2.0)
    assert "parameters" not in json.loads(answer.content[: int(answer.headers[LENGTH])])


@pytest.mark.parametrize("model", sorted(STATUSES))
def test_every_grpc_status_has_its_http_status_with_reason_and_retry_after(control: Control, model: str) -> None:
    answer = control.http.post(f"/v2/models/{model}/infer", json={"inputs": [X]})
    assert answer.status_code == GRPC[STATUSES[model]]
    assert answer.json() == {"error": f"told to answer {model}", "reason": REASON}
    assert answer.headers["retry-after"] == "2"  # one and a half, in whole seconds


def test_a_status_for_a_reading_call_is_passed_on_too(control: Control) -> None:
    assert control.http.get("/v2/models/not-found").status_code == 404
    assert control.http.get("/v2/models/not-found/ready").status_code == 404
    assert control.http.get("/v2/nothing").json().keys() == {"error", "reason"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": [{**X, "data": [1.0]}]}, "expects 2 values, got 1"),
        ({"inputs": [{**X, "datatype": "TEXT"}]}, "expected one of"),
        ({"inputs": [{**X, "data": ["a", "b"]}]}, "expects numbers, got 'a'"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_before_the_daemon_is_asked(control: Control, body: object, words: str) -> None:
    answer = control.http.post("/v2/models/unavailable/infer", json=body)  # the daemon would answer 503
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_bodies_too_large_or_compressed_are_refused(control: Control) -> None:
    assert control.http.post("/v2/models/m/infer", content=b" " * 1_000_001).status_code == 413
    chunked = control.http.post("/v2/models/m/infer", content=(b" " * 300_000 for _ in range(4)))
    assert chunked.status_code == 413
    assert "larger than 1000000 bytes" in chunked.json()["error"]
    assert control.http.post("/v2/models/m/infer", content=b"x", headers={"Content-Encoding": "gzip"}).status_code == 415


def test_without_a_daemon_inference_is_unavailable_and_the_registry_is_served(tmp_path: Path) -> None:
    create_registry(str(tmp_path / "registry"))
    with echo_server() as gone:
        pass
    with echo_server() as there:
        for daemons, status in ((gone, 503), (f"{gone},{there}", 200)):
            flags = {"registry": str(tmp_path / "registry"), "http-address": "127.0.0.1:0", "daemon": daemons}
            with running("control_plane", flags, tmp_path / "log") as program:
                url = re.findall(r"http://\S+", program.announcement)[0]
                # More than once each: the daemons are asked in turn.
                for _ in range(3):
                    assert httpx.post(f"{url}/v2/models/m/infer", json={"inputs": [X]}).status_code == status
                    assert httpx.get(f"{url}/v2/health/live").status_code == status
                    assert httpx.get(f"{url}/v2/health/ready").status_code == status
                    assert httpx.get(f"{url}/api/v1/models").json() == []


def test_the_table_of_statuses_is_complete() -> None:
    assert set(GRPC) == set(grpc.StatusCode)
