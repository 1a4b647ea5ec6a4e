"""The daemon follows a registry in a bucket as it does a folder, and serves nothing that a trusted key did not sign."""

from pathlib import Path

import httpx
import numpy as np

from clients.demo.programs import running
from registry.location import Keys, create_registry, open_registry
from registry.signing import generate
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request
from tests.daemons import daemon, wait_until
from tests.registry.object_storage import ObjectStorage, object_storage

__all__ = ["object_storage"]  # a fixture

ROW = np.ones((1, 3), np.float32)


def test_a_daemon_follows_a_registry_in_a_bucket(object_storage: ObjectStorage, tmp_path: Path) -> None:
    url = object_storage.place()
    registry = create_registry(url)
    for factor in (2.0, 5.0):
        models.register_scaled(registry, "scaled", factor)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    with daemon(tmp_path, {"registry": url}) as served:
        served.wait_for("scaled")

        def answer() -> float:
            return float(raw_floats(served.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5))[0, 0])

        assert answer() == 2
        registry.promote("scaled", 2, to="production", actor="test", reason="second")
        wait_until(lambda: answer() == 5, "the promotion is not followed")
        registry.rollback("scaled", actor="test", reason="back")
        wait_until(lambda: answer() == 2, "the rollback is not followed")


def test_a_daemon_with_trusted_keys_goes_on_serving_what_was_signed(tmp_path: Path) -> None:
    public = generate(tmp_path / "ana.key")
    url = str(tmp_path / "registry")
    registry = create_registry(url, keys=Keys(tmp_path / "ana.key"))
    for factor in (2.0, 5.0):
        models.register_scaled(registry, "scaled", factor)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    with daemon(tmp_path, {"registry": url, "trusted-keys": str(public)}) as served:
        served.wait_for("scaled")
        open_registry(url).promote("scaled", 2, to="production", actor="eve", reason="not signed")
        wait_until(lambda: "is not signed" in served.program.log.read_text(), "nobody says that a commit is not signed")
        answer = served.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)
        assert answer.model_version == "1"


def test_a_control_plane_signs_what_it_commits(tmp_path: Path) -> None:
    public = generate(tmp_path / "ana.key")
    url = str(tmp_path / "registry")
    models.register_scaled(create_registry(url, keys=Keys(tmp_path / "ana.key")), "scaled", 2.0)
    flags = {"registry": url, "http-address": "127.0.0.1:0", "signing-key": str(tmp_path / "ana.key"), "trusted-keys": str(public)}
    with running("control_plane", flags, tmp_path / "control.log") as program:
        base = program.announcement.rpartition(" ")[2]
        body = {"version": 1, "to": "production", "reason": "by REST"}
        path = f"{base}/api/v1/models/scaled/promotions"
        assert httpx.post(path, json=body, trust_env=False).status_code == 201
        assert open_registry(url, keys=Keys(trusted_keys=public)).state("scaled").production == 1
        open_registry(url).note("scaled", actor="eve", reason="not signed")
        refused = httpx.get(f"{base}/api/v1/models/scaled", trust_env=False)
        assert (refused.status_code, refused.json()["type"]) == (500, "urn:tidegate:problem:registry-signature")
