"""Splits, stickiness and shadows: which version answers whom, and what that costs them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from registry.registry import Registry
from registry.route import Target
from server.grpcio_transport.router import assigned
from tests import models
from tests.contracts.transport.calls import raw_floats, raw_request
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value
from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)
FACTORS = {"1": 2.0, "2": 3.0, "3": 4.0}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = create_registry(str(tmp_path / "registry"))
    for factor in FACTORS.values():
        models.register_scaled(registry, "scaled", factor)
    return registry


@pytest.fixture
def running(registry: Registry, tmp_path: Path) -> Iterator[Daemon]:
    route(registry, Target(1))
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as started:
        started.wait_for("scaled")
        yield started


def route(registry: Registry, target: Target) -> None:
    registry.route("scaled", target, actor="test", reason="traffic")


def infer(running: Daemon, key: str = "") -> pb.ModelInferResponse:
    request = raw_request("scaled", {"numeric": ROW})
    if key:
        request.parameters["tidegate_routing_key"].string_param = key
    answer = running.stub.ModelInfer(request, timeout=5)
    assert isinstance(answer, pb.ModelInferResponse)
    assert (raw_floats(answer) == ROW * FACTORS[answer.model_version]).all()
    return answer


def version_of(running: Daemon, key: str) -> str:
    return str(infer(running, key).model_version)


def counted(running: Daemon, arm: str, version: str) -> float:
    samples = scrape(running.metrics_url)
    found = [s.value for s in samples if s.name == "tidegate_requests_total" and (s.labels["arm"], s.labels["version"]) == (arm, version)]
    return sum(found)


def test_split_gives_each_version_its_share_and_counts_it_by_arm(registry: Registry, running: Daemon) -> None:
    route(registry, Target(1, {1: 70, 2: 30}))
    wait_until(lambda: "2" in {infer(running).model_version for _ in range(20)}, "the split is not followed")
    before = {arm: counted(running, *arm) for arm in (("stable", "1"), ("canary", "2"))}
    answered = Counter(infer(running).model_version for _ in range(1000))
    # Six standard deviations of a share of 0.3 among 1,000.
    assert abs(answered["2"] - 300) < 6 * (1000 * 0.3 * 0.7) ** 0.5
    assert counted(running, "stable", "1") - before["stable", "1"] == answered["1"]
    assert counted(running, "canary", "2") - before["canary", "2"] == answered["2"]


def test_key_sticks_to_its_version_also_as_the_canary_grows_and_as_computed_from_the_formula(registry: Registry, running: Daemon) -> None:
    keys = [f"customer-{number}" for number in range(120)]
    route(registry, Target(1, {1: 80, 2: 20}))
    wait_until(lambda: "2" in {version_of(running, key) for key in keys}, "the split is not followed")
    first = {key: version_of(running, key) for key in keys}
    assert first == {key: version_of(running, key) for key in keys}
    assert first == {key: str(assigned("scaled", {1: 80, 2: 20}, 1, key)) for key in keys}
    route(registry, Target(1, {1: 50, 2: 50}))
    wait_until(lambda: {key: version_of(running, key) for key in keys} != first, "the new split is not followed")
    later = {key: version_of(running, key) for key in keys}
    assert all(later[key] == "2" for key in keys if first[key] == "2")
    assert sum(version == "2" for version in later.values()) > sum(version == "2" for version in first.values())


def test_shadow_computes_what_is_asked_and_nobody_sees_it(registry: Registry, running: Daemon) -> None:
    route(registry, Target(1, shadows=(3,)))
    wait_until(lambda: (infer(running), counted(running, "shadow", "3"))[1] > 0, "the shadow is not followed")
    before = counted(running, "shadow", "3")
    assert {infer(running).model_version for _ in range(50)} == {"1"}
    wait_until(lambda: counted(running, "shadow", "3") == before + 50, "the shadow did not compute them all", 5)
    assert value(scrape(running.metrics_url), "tidegate_batch_rows_sum", model="scaled", version="3") >= 50


def test_slow_shadow_delays_no_answer_and_is_shed_first(registry: Registry, running: Daemon) -> None:
    signature = Signature((TensorSpec("numeric", "FP32", (-1, 3), models.COLUMNS),), (TensorSpec("scaled", "FP32", (-1, 3)),))
    files = {bundle.MODEL: models.slow(100_000), bundle.SIGNATURE: signature.encode()}
    number = registry.register("scaled", files, {}, actor="test", reason="slow")
    route(registry, Target(1, shadows=(number,)))
    wait_until(lambda: (infer(running), counted(running, "shadow", str(number)))[1] > 0, "the shadow is not followed")
    rows = {"numeric": np.ones((4000, 3), np.float32)}
    for _ in range(20):
        assert running.stub.ModelInfer(raw_request("scaled", rows), timeout=5).model_version == "1"
    shed = value(scrape(running.metrics_url), "tidegate_requests_total", arm="shadow", code="RESOURCE_EXHAUSTED")
    assert shed > 0
    assert infer(running).model_version == "1"


def test_label_reaches_a_canary_directly_and_is_no_production_traffic(registry: Registry, running: Daemon) -> None:
    route(registry, Target(1, {1: 99, 2: 1}))
    running.wait_for("scaled", "2")
    answer = running.stub.ModelInfer(raw_request("scaled", {"numeric": ROW}, version="2"), timeout=5)
    assert answer.model_version == "2"
    assert counted(running, "direct", "2") == 1
