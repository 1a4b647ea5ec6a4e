"""Swaps without a lost request, drain, drift counts, overload: what a running daemon promises over time."""

import shutil
import signal
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from registry import bundle
from registry.location import create_registry
from server.onnx_engine import OnnxEngine
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request
from tests.contracts.transport.conftest import REFERENCE, TEXTS
from tests.daemons import daemon, wait_until
from tests.exposition import scrape, value
from tidegate_protos import inference_pb2 as pb
from tidegate_protos import monitoring_pb2, monitoring_pb2_grpc

ROW = np.array([[1, 2, 3]], np.float32)


class Sender(threading.Thread):
    """Sends one row over and over; keeps every version that answered, every wrong answer and every failure."""

    def __init__(self, address: str, factors: dict[str, float]) -> None:
        super().__init__()
        self.versions: list[str] = []
        self.problems: list[str] = []
        self.stopped = threading.Event()
        self._address, self._factors = address, factors

    def run(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", bytes, bytes)
            request = raw_request("scaled", {"numeric": ROW}).SerializeToString()
            while not self.stopped.is_set():
                try:
                    answer = pb.ModelInferResponse.FromString(call(request, timeout=10))
                except grpc.RpcError as error:
                    self.problems.append(str(error))
                    continue
                self.versions.append(answer.model_version)
                if not (raw_floats(answer) == ROW * self._factors[answer.model_version]).all():
                    self.problems.append(f"version {answer.model_version} answered {raw_floats(answer)}")


def test_promotion_and_rollback_under_load_lose_no_request_and_mix_no_version(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    for factor in (2.0, 3.0):
        models.register_scaled(registry, "scaled", factor)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running:
        running.wait_for("scaled")
        sender = Sender(running.address, {"1": 2.0, "2": 3.0})
        sender.start()
        try:
            for version, change in (("2", "promote"), ("1", "rollback")):
                wait_until(lambda: len(sender.versions) > 20, "no answers")
                sender.versions.clear()
                if change == "promote":
                    registry.promote("scaled", 2, to="production", actor="test", reason="better")
                else:
                    registry.rollback("scaled", actor="test", reason="worse")
                wait_until(lambda version=version: sender.versions[-1:] == [version], f"{change} was not followed")  # type: ignore[misc]
        finally:
            sender.stopped.set()
            sender.join()
    assert sender.problems == []


def test_version_that_does_not_load_leaves_the_old_one_serving(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    manifest = registry.manifest("scaled", 1)
    signature = registry.blobs.get(manifest.file("signature.json").sha256)
    golden = registry.blobs.get(manifest.file("golden.npz").sha256)
    files = {"model.onnx": models.scaled(5.0), "signature.json": signature, "golden.npz": golden}  # golden rows of another model
    registry.register("scaled", files, {}, actor="test", reason="contradicts its golden rows")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running:
        running.wait_for("scaled")
        registry.promote("scaled", 2, to="production", actor="test", reason="should not serve")
        wait_until(lambda: "golden rows" in running.program.log.read_text(), "the failure is not in the log")
        answer = running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)
        assert answer.model_version == "1"


def test_sigterm_finishes_what_is_in_flight_and_exits_0(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry"), "drain-delay": "2"}) as running:
        running.wait_for("scaled")
        calls = [running.stub.ModelInfer.future(raw_request("scaled", {"numeric": ROW}), timeout=10) for _ in range(50)]
        running.program.process.send_signal(signal.SIGTERM)
        with grpc.insecure_channel(running.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            wait_until(
                lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=5).status == health_pb2.HealthCheckResponse.NOT_SERVING,
                "still SERVING",
                1.5,
            )
        assert running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5).model_version == "1"
        assert {call.result().model_version for call in calls} == {"1"}
        assert running.program.process.wait(10) == 0


def test_sigterm_does_not_wait_for_a_version_that_is_being_loaded(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    signature = OnnxEngine(models.slow(1), threads=1).signature.encode()
    registry.register("slow", {bundle.MODEL: models.slow(100_000_000), bundle.SIGNATURE: signature}, {}, actor="test", reason="a minute")
    registry.promote("slow", 1, to="production", actor="test", reason="first")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running:
        wait_until(lambda: '"serving"' in running.program.log.read_text(), "not followed")
        time.sleep(0.5)
        running.program.process.send_signal(signal.SIGTERM)
        assert running.program.process.wait(10) == 0


def test_drift_counts_every_production_row_once_and_no_other(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_classifier(registry, "classifier", 2.0, REFERENCE, TEXTS)
    registry.promote("classifier", 1, to="production", actor="test", reason="first")
    texts = np.array(TEXTS, object).reshape(-1, 1)
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running, grpc.insecure_channel(running.address) as channel:
        running.wait_for("classifier")
        for start in range(0, len(REFERENCE), 250):
            rows = {"numeric": REFERENCE[start : start + 250], "categorical": texts[start : start + 250]}
            running.stub.ModelInfer(raw_request("classifier", rows), timeout=10)
            running.stub.ModelInfer(raw_request("classifier", rows, version="1"), timeout=10)
        stub = monitoring_pb2_grpc.MonitoringServiceStub(channel)  # type: ignore[no-untyped-call]
        drift = stub.GetDrift(monitoring_pb2.GetDriftRequest(model="classifier"), timeout=10)
        assert drift.rows == len(REFERENCE)
        assert [feature.name for feature in drift.features] == ["a", "b", "c", "kind", "score", "class"]
        for feature in drift.features:
            assert list(feature.observed) == list(feature.reference), feature.name
            assert not feature.drifted
        samples = scrape(running.metrics_url)
        assert value(samples, "tidegate_drift_rows_total", model="classifier", version="1") == len(REFERENCE)
        assert value(samples, "tidegate_drift_bin_total", feature="kind", bin="=red") == 600
        assert value(samples, "tidegate_drift_bin_total", feature="kind", bin="missing") == 100
        shifted = {"numeric": REFERENCE + np.float32(1), "categorical": texts}
        running.stub.ModelInfer(raw_request("classifier", shifted), timeout=10)
        drift = stub.GetDrift(monitoring_pb2.GetDriftRequest(model="classifier"), timeout=10)
        assert {feature.name for feature in drift.features if feature.drifted} == {"a", "b", "c", "score"}


def test_model_registered_while_running_is_served(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running:
        wait_until(lambda: running.stub.ServerReady(pb.ServerReadyRequest(), timeout=5).ready, "not ready")
        with pytest.raises(grpc.RpcError, match="no model"):
            running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5)
        models.register_scaled(registry, "scaled", 2.0)
        begin = time.perf_counter()
        registry.promote("scaled", 1, to="production", actor="test", reason="first")
        running.wait_for("scaled")
        assert time.perf_counter() - begin < 5


def test_registry_that_goes_away_is_said_and_serving_goes_on(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    registry.promote("scaled", 1, to="production", actor="test", reason="first")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running:
        running.wait_for("scaled")
        shutil.rmtree(tmp_path / "registry")
        wait_until(lambda: "registry unreadable" in running.program.log.read_text(), "the loss is not in the log")
        assert running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}), timeout=5).model_version == "1"
