"""Several models and versions at once, loaded, swapped and let go under load: what a running daemon promises about each."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import numpy as np
import pytest

from registry import bundle
from registry.drift_limits import Limits, Window
from registry.location import create_registry
from registry.registry import Registry
from registry.route import Target
from server.onnx_engine import OnnxEngine
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request, reason
from tests.contracts.transport.conftest import REFERENCE, TEXTS
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value
from tests.graphs import MIXING, dense
from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return create_registry(str(tmp_path / "registry"))


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "registry")


def promote(registry: Registry, version: int, *, model: str = "scaled", to: str = "production") -> None:
    registry.promote(model, version, to=to, actor="test", reason="test")


def register(registry: Registry, model: str, onnx: bytes, golden: bytes | None = None) -> int:
    signature = OnnxEngine(onnx, threads=1).signature
    files = {bundle.MODEL: onnx, bundle.SIGNATURE: signature.encode()} | ({bundle.GOLDEN: golden} if golden else {})
    return registry.register(model, files, {}, actor="test", reason="test")


def answer(running: Daemon, model: str = "scaled", version: str = "") -> pb.ModelInferResponse:
    response = running.stub.ModelInfer(raw_request(model, {"numeric": ROW}, version=version), timeout=10)
    assert isinstance(response, pb.ModelInferResponse)
    return response


def events(running: Daemon, event: str) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in running.program.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if event in line["event"]]


def test_every_version_of_a_route_of_a_stage_and_of_the_route_before_answers_by_its_number(
    registry: Registry, root: str, tmp_path: Path
) -> None:
    for factor in (2.0, 3.0, 4.0, 5.0, 6.0):
        models.register_scaled(registry, "scaled", factor)
        models.register_scaled(registry, "other", -factor)
    promote(registry, 1)
    promote(registry, 1, model="other")
    registry.route("scaled", Target(2, {2: 90, 3: 10}, (4,)), actor="test", reason="canary")
    promote(registry, 5, to="staging")
    with daemon(tmp_path, {"registry": root}) as running:
        for number in range(1, 6):
            running.wait_for("scaled", str(number))
            assert raw_floats(answer(running, version=str(number)))[0, 0] == number + 1
        assert raw_floats(answer(running, version="staging"))[0, 0] == 6
        assert raw_floats(answer(running, "other"))[0, 0] == -2
        metadata = running.stub.ModelMetadata(pb.ModelMetadataRequest(name="scaled"), timeout=5)
        assert list(metadata.versions) == ["1", "2", "3", "4", "5"]
        with pytest.raises(grpc.RpcError) as refused:
            answer(running, "other", "2")
        assert reason(refused.value) == "VERSION_UNKNOWN"


def test_version_that_does_not_load_never_becomes_ready_and_says_why(registry: Registry, root: str, tmp_path: Path) -> None:
    models.register_scaled(registry, "scaled", 2.0)
    promote(registry, 1)
    rows = np.ones((2, 3), np.float32)
    register(registry, "scaled", models.scaled(9.0), models.golden({"input.numeric": rows, "output.scaled": rows}))
    with daemon(tmp_path, {"registry": root}) as running:
        running.wait_for("scaled")
        promote(registry, 2)
        wait_until(lambda: bool(events(running, "not servable")), "the failure is not in the log")
        assert answer(running).model_version == "1"
        assert running.stub.ModelReady(pb.ModelReadyRequest(name="scaled"), timeout=5).ready
        with pytest.raises(grpc.RpcError) as refused:
            answer(running, version="2")
        assert refused.value.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE}
        samples = scrape(running.metrics_url)
        assert value(samples, "tidegate_model_load_failed", model="scaled", version="2") == 1
        assert value(samples, "tidegate_model_load_failures_total", model="scaled", version="2") == 1
        assert value(samples, "tidegate_model_fallback", model="scaled", version="1") == 1
        assert not [s for s in samples if s.name == "tidegate_model_info" and s.labels["version"] == "2"]
        assert "golden rows" in str(events(running, "not servable")[0]["error"])
        registry.rollback("scaled", actor="test", reason="back")
        wait_until(
            lambda: not [s for s in scrape(running.metrics_url) if s.name == "tidegate_model_fallback"],
            "a rollback does not end the fallback",
        )


def test_production_version_that_is_damaged_at_a_restart_is_no_outage(registry: Registry, root: str, tmp_path: Path) -> None:
    for factor in (2.0, 3.0):
        models.register_scaled(registry, "scaled", factor)
    promote(registry, 1)
    promote(registry, 2)
    digest = registry.manifest("scaled", 2).file(bundle.MODEL).sha256
    blob = tmp_path / "registry" / "blobs" / "sha256" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(b"damaged")
    with daemon(tmp_path, {"registry": root}) as running:
        running.wait_for("scaled")
        assert answer(running).model_version == "1"
        assert value(scrape(running.metrics_url), "tidegate_model_fallback", model="scaled", version="1") == 1
        assert events(running, "an earlier version answers")[0]["stable"] == 2


def test_rows_of_a_model_that_mixes_them_are_never_those_of_two_callers(registry: Registry, root: str, tmp_path: Path) -> None:
    register(registry, "mixing", MIXING["softmax of columns"])
    promote(registry, 1, model="mixing")
    generator = np.random.default_rng(3)
    batches = [generator.normal(size=(rows, 3)).astype(np.float32) for rows in (1, 2, 3) * 30]
    with daemon(tmp_path, {"registry": root, "max-queue-delay": "0.02"}) as running, ThreadPoolExecutor(16) as callers:
        running.wait_for("mixing")

        def ask(rows: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return raw_floats(running.stub.ModelInfer(raw_request("mixing", {"x": rows}), timeout=20))

        for rows, got in zip(batches, callers.map(ask, batches), strict=True):
            exponentials = np.exp(rows)
            np.testing.assert_allclose(got, exponentials / exponentials.sum(axis=0), rtol=1e-5)
        assert "another when it is run together" in str(events(running, "every request is a run of its own")[0]["why"])


def test_budget_keeps_production_and_says_what_it_costs(registry: Registry, root: str, tmp_path: Path) -> None:
    for factor in (2.0, 3.0, 4.0):
        models.register_scaled(registry, "scaled", factor)
    registry.route("scaled", Target(1, {1: 90, 2: 10}, (3,)), actor="test", reason="canary")
    with daemon(tmp_path, {"registry": root, "memory-budget": "600KiB"}) as running:
        running.wait_for("scaled")
        running.wait_for("scaled", "2")
        samples = scrape(running.metrics_url)
        assert value(samples, "tidegate_memory_budget_bytes") == 600 << 10
        assert 256 << 10 < value(samples, "tidegate_model_bytes", model="scaled", version="1") < 300 << 10
        assert value(samples, "tidegate_model_load_failed", model="scaled", version="3") == 1
        assert "as shadow" in str(events(running, "want of memory")[0]["reason"])


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Daemon]:
    folder = tmp_path / "mounted"
    folder.mkdir()
    (folder / "anything.onnx").write_bytes(models.scaled(3.0))
    with daemon(tmp_path, {"model-dir": str(folder), "model-name": "churn"}) as running:
        yield running


def test_plain_folder_is_served_under_the_name_given(plain: Daemon) -> None:
    assert raw_floats(answer(plain, "churn")).tolist() == [[3, 6, 9]]
    assert not [sample for sample in scrape(plain.metrics_url) if sample.name.startswith("tidegate_registry")]


def test_metrics_are_at_their_path_only_and_answer_head(plain: Daemon) -> None:
    connection = http.client.HTTPConnection(urlsplit(plain.metrics_url).netloc, timeout=5)
    for method, path, status in (("GET", "/", 404), ("GET", "/metricsx", 404), ("HEAD", "/metrics", 200), ("GET", "/metrics", 200)):
        connection.request(method, path)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, method == "GET")
        connection.close()


def test_registry_that_cannot_be_read_shows_in_the_metrics(registry: Registry, root: str, tmp_path: Path) -> None:
    models.register_scaled(registry, "scaled", 2.0)
    promote(registry, 1)
    with daemon(tmp_path, {"registry": root}) as running:
        running.wait_for("scaled")
        assert value(scrape(running.metrics_url), "tidegate_registry_reachable") == 1
        assert value(scrape(running.metrics_url), "tidegate_registry_age_seconds") < 30
        (tmp_path / "registry").rename(tmp_path / "elsewhere")
        wait_until(lambda: value(scrape(running.metrics_url), "tidegate_registry_reachable") == 0, "the loss is not in the metrics")
        assert answer(running).model_version == "1"
        (tmp_path / "elsewhere").rename(tmp_path / "registry")


def test_a_version_is_described_once_for_each_stage_it_is_in(registry: Registry, root: str, tmp_path: Path) -> None:
    for factor in (2.0, 3.0):
        models.register_scaled(registry, "scaled", factor)
    promote(registry, 1)
    promote(registry, 2, to="staging")
    with daemon(tmp_path, {"registry": root}) as running:
        running.wait_for("scaled")
        running.wait_for("scaled", "2")
        promote(registry, 2)
        wait_until(lambda: _stages(running) == {("2", "production"), ("1", "")}, "the stages are not described")


def _stages(running: Daemon) -> set[tuple[str, str]]:
    return {(s.labels["version"], s.labels["stage"]) for s in scrape(running.metrics_url) if s.name == "tidegate_model_info"}


def test_drift_of_any_feature_that_lasts_is_one_metric_of_the_version(registry: Registry, root: str, tmp_path: Path) -> None:
    models.register_classifier(registry, "classifier", 2.0, REFERENCE, TEXTS, Limits(windows=(Window(rows=1000),)))
    promote(registry, 1, model="classifier")
    texts = np.array(TEXTS, object).reshape(-1, 1)
    with daemon(tmp_path, {"registry": root}) as running:
        running.wait_for("classifier")
        for turn, (shift, detected) in enumerate(((0, 0), (2, 0), (2, 1), (0, 0)), 1):
            rows = {"numeric": REFERENCE + np.float32(shift), "categorical": texts}
            running.stub.ModelInfer(raw_request("classifier", rows), timeout=10)
            wait_until(partial(_counted, running, 1000 * turn), "rows are missing")
            assert value(scrape(running.metrics_url), "tidegate_drift_detected", model="classifier", version="1") == detected


def _counted(running: Daemon, rows: int) -> bool:
    return value(scrape(running.metrics_url), "tidegate_drift_rows_total", model="classifier") == rows


def _answers(running: Daemon, request: pb.ModelInferRequest, version: str) -> bool:
    return bool(running.stub.ModelInfer(request, timeout=10).model_version == version)


@pytest.mark.load
def test_memory_does_not_grow_over_a_hundred_swaps(registry: Registry, root: str, tmp_path: Path) -> None:
    weights = np.random.default_rng(5).normal(size=(800, 800)).astype(np.float32)
    for offset in (0, 1, 2):
        register(registry, "large", dense(weights + np.float32(offset)))
    promote(registry, 1, model="large")
    request = raw_request("large", {"x": np.ones((8, 800), np.float32)})
    with daemon(tmp_path, {"registry": root}) as running:
        running.wait_for("large")
        resident: list[float] = []
        for swap in range(100):
            number = (swap + 1) % 3 + 1
            promote(registry, number, model="large")
            wait_until(partial(_answers, running, request, str(number)), "not followed")
            resident.append(value(scrape(running.metrics_url), "process_resident_memory_bytes"))
        file_bytes = weights.nbytes
        assert resident[-1] - max(resident[9:30]) < 8 * file_bytes, "a hundred swaps leave less than a few versions behind"
