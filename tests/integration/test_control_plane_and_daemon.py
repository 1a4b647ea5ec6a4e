"""The control plane and the daemon over one registry, used by a stranger with nothing but HTTP."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.demo.programs import running
from registry.location import create_registry
from server.access import digest_of
from server.tokens import Entry, entry_text
from tests import models
from tests.certificates import LOCAL, authority, issued
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value

ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
INFER = {"inputs": [{"name": "numeric", "datatype": "FP32", "shape": [2, 3], "data": ROWS}]}


@dataclass(frozen=True)
class Answer:
    """Status, headers and JSON body of one HTTP answer."""

    status: int
    body: Any


@dataclass(frozen=True)
class Stranger:
    """Somebody with an HTTP client."""

    url: str

    def get(self, path: str) -> Answer:
        return self._send(urllib.request.Request(self.url + path))  # noqa: S310 -- a loopback URL of ours

    def post(self, path: str, body: object) -> Answer:
        headers = {"Content-Type": "application/json"}
        return self._send(urllib.request.Request(self.url + path, json.dumps(body).encode(), headers))  # noqa: S310 -- the same

    def _send(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 -- the same
                return Answer(response.status, json.loads(response.read() or b"null"))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read() or b"null"))


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Stranger, Daemon]]:
    registry = create_registry(str(tmp_path / "registry"))
    for factor in (2.0, 3.0):
        models.register_scaled(registry, "scaled", factor)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    flags = {"registry": str(tmp_path / "registry")}
    with daemon(tmp_path, flags) as serving:
        serving.wait_for("scaled")
        flags |= {"http-address": "127.0.0.1:0", "daemon": serving.address}
        with running("control_plane", flags, tmp_path / "control.log") as control:
            match = re.search(r"http://\S+:\d+", control.announcement)
            assert match, control.announcement
            yield Stranger(match[0]), serving


def test_promotion_by_rest_changes_what_the_daemon_answers_and_rollback_changes_it_back(both: tuple[Stranger, Daemon]) -> None:
    stranger, _ = both

    def answers(factor: float, version: str) -> bool:
        answer = stranger.post("/v2/models/scaled/infer", INFER)
        assert answer.status == 200, answer
        same = np.array_equal(np.ravel(answer.body["outputs"][0]["data"]), np.ravel(ROWS) * factor)
        assert same == (answer.body["model_version"] == version)
        return same

    assert answers(2, "1")
    body = {"version": 2, "to": "production", "reason": "better"}
    assert stranger.post("/api/v1/models/scaled/promotions", body).status == 201
    wait_until(lambda: answers(3, "2"), "the promotion was not followed")
    assert stranger.post("/api/v1/models/scaled/promotions", body).status == 409
    assert stranger.post("/api/v1/models/scaled/rollbacks", {"reason": "worse"}).status == 201
    wait_until(lambda: answers(2, "1"), "the rollback was not followed")
    assert stranger.post("/api/v1/models/scaled/rollbacks", {"reason": "worse"}).status == 409
    log = stranger.get("/api/v1/models/scaled/log").body
    assert "rolled_back" in json.dumps(log)


def test_inference_rest_calls_are_forwarded_with_their_refusals(both: tuple[Stranger, Daemon]) -> None:
    stranger, _ = both
    assert stranger.get("/v2/health/live").status == 200
    assert stranger.get("/v2/health/ready").status == 200
    assert stranger.get("/v2/models/scaled/ready").status == 200
    assert stranger.get("/v2/models/scaled").body["inputs"][0]["shape"] == [-1, 3]
    assert stranger.post("/v2/models/nobody/infer", INFER).status == 404
    wrong = {"inputs": [{**INFER["inputs"][0], "name": "numerics"}]}
    refused = stranger.post("/v2/models/scaled/infer", wrong)
    assert refused.status == 400
    assert "expected inputs ['numeric']" in refused.body["error"]
    empty = {"inputs": [{"name": "numeric", "datatype": "FP32", "shape": [0, 3], "data": []}]}
    assert "empty" in stranger.post("/v2/models/scaled/infer", empty).body["error"]


def test_both_programs_are_scraped(both: tuple[Stranger, Daemon]) -> None:
    stranger, serving = both
    stranger.post("/v2/models/scaled/infer", INFER)
    assert value(scrape(serving.metrics_url), "tidegate_requests_total", model="scaled", version="1", arm="stable", code="OK") == 1
    assert scrape(f"{stranger.url}/metrics")


def test_serving_goes_on_without_the_control_plane_and_the_control_plane_without_the_daemon(both: tuple[Stranger, Daemon]) -> None:
    stranger, serving = both
    serving.program.stop()
    assert stranger.post("/v2/models/scaled/infer", INFER).status == 503
    assert stranger.get("/api/v1/models").status == 200


def test_the_control_plane_shows_the_daemon_a_token_and_a_certificate(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    ca = authority("authority")
    certificate, key = issued(ca, "daemon", LOCAL).write(tmp_path, "daemon")
    mine, my_key = issued(ca, "control").write(tmp_path, "control")
    entries = [
        Entry(name="control", scopes=("infer", "read"), sha256=digest_of("first")),
        Entry(name="control", scopes=("read",), certificate="control"),
    ]
    files = {"ca.pem": ca.pem.decode(), "token": "first\n", "tokens.toml": "\n".join(map(entry_text, entries))}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    serving = {"tls-cert": certificate, "tls-key": key, "tls-client-ca": tmp_path / "ca.pem", "tokens": tmp_path / "tokens.toml"}
    shown = {
        "daemon-tls-ca": tmp_path / "ca.pem",
        "daemon-tls-cert": mine,
        "daemon-tls-key": my_key,
        "daemon-token-file": tmp_path / "token",
    }
    common = {"registry": str(tmp_path / "registry")}
    with daemon(tmp_path, {**common, **{name: str(path) for name, path in serving.items()}}) as served:
        flags = {**common, "daemon": served.address, "http-address": "127.0.0.1:0", **{name: str(path) for name, path in shown.items()}}
        with running("control_plane", flags, tmp_path / "control.log") as program:
            match = re.search(r"http://\S+", program.announcement)
            assert match
            stranger = Stranger(match[0])
            wait_until(lambda: stranger.get("/v2/models/scaled/ready").status == 200, "the model is not ready")
            assert stranger.post("/v2/models/scaled/infer", INFER).body["outputs"][0]["data"] == [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]
            (tmp_path / "token").write_text("revoked\n")
            assert stranger.post("/v2/models/scaled/infer", INFER).status == 401
            (tmp_path / "token").unlink()
            assert stranger.post("/v2/models/scaled/infer", INFER).status == 502
