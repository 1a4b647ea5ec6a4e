"""What a running daemon tells of drift: by arm, by window, after a swap, and of what it cannot count."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.drift_limits import Limits, Window
from registry.location import create_registry
from registry.profile import Profile, numeric_feature
from registry.registry import Registry
from registry.route import Target
from tests import models
from tests.contracts.transport.calls import raw_request, reason
from tests.contracts.transport.conftest import REFERENCE, TEXTS
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value
from tidegate_protos import monitoring_pb2, monitoring_pb2_grpc

LIMITS = Limits(windows=(Window(rows=1000), Window(seconds=3600)))
ROWS = {"numeric": REFERENCE, "categorical": np.array(TEXTS, object).reshape(-1, 1)}
NAMES = ["a", "b", "c", "kind", "score", "class"]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    registry = create_registry(str(tmp_path / "registry"))
    for weight in (2.0, 3.0, 4.0):
        models.register_classifier(registry, "classifier", weight, REFERENCE, TEXTS, LIMITS)
    registry.promote("classifier", 1, to="production", actor="test", reason="first")
    return registry


@pytest.fixture
def running(registry: Registry, tmp_path: Path) -> Iterator[Daemon]:
    del registry  # filled before the daemon starts
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running:
        running.wait_for("classifier")
        yield running


def drift(running: Daemon, **asked: str) -> monitoring_pb2.GetDriftResponse:
    with grpc.insecure_channel(running.address) as channel:
        stub = monitoring_pb2_grpc.MonitoringServiceStub(channel)  # type: ignore[no-untyped-call]
        answer: monitoring_pb2.GetDriftResponse = stub.GetDrift(monitoring_pb2.GetDriftRequest(model="classifier", **asked), timeout=10)
        return answer


def send(running: Daemon, shift: float = 0, **more: Any) -> str:
    rows = {**ROWS, "numeric": REFERENCE + np.float32(shift)}
    return str(running.stub.ModelInfer(raw_request("classifier", rows, **more), timeout=20).model_version)


def counted(running: Daemon, **asked: str) -> int:
    return drift(running, **asked).rows


def test_rows_are_counted_for_the_arm_that_answered_and_shadows_apart(registry: Registry, running: Daemon) -> None:
    registry.route("classifier", Target(1, {1: 50, 2: 50}, (3,)), actor="test", reason="canary")
    for version in ("2", "3"):
        running.wait_for("classifier", version)
    answered = [send(running) for _ in range(12)]
    shares = {version: answered.count(version) * 1000 for version in ("1", "2")}
    assert min(shares.values()) > 0
    wait_until(lambda: counted(running, version="3", arm="shadow") == 12_000, "shadow rows are missing", 10)
    for version, arm in (("1", "stable"), ("2", "canary")):
        wait_until(lambda v=version, a=arm: counted(running, version=v, arm=a) == shares[v], f"{arm} rows are missing", 10)  # type: ignore[misc]
        assert counted(running, version=version) == shares[version], "production traffic is stable and canary"
        assert counted(running, version=version, arm="shadow") == 0
    assert counted(running, version="3") == 0, "a shadow's rows are no production traffic"
    samples = scrape(running.metrics_url)
    for version, rows in {**shares, "3": 0}.items():
        assert value(samples, "tidegate_drift_rows_total", version=version) == rows
        assert value(samples, "tidegate_drift_bin_total", version=version, feature="kind") == rows


def test_last_completed_window_is_told_apart_from_everything_and_drift_that_lasts_from_one_of_a_moment(running: Daemon) -> None:
    for shift, lasts in ((0, set()), (2, set()), (2, {"a", "b", "c", "score", "class"})):
        rows = counted(running)
        send(running, shift)
        wait_until(lambda rows=rows: counted(running) == rows + 1000, "rows are missing", 10)  # type: ignore[misc]
        window, everything = drift(running, window="1000rows"), drift(running)
        assert (window.rows, window.window, window.arm) == (1000, "1000rows", "")
        assert 0 < window.started < window.ended <= everything.ended
        assert [feature.name for feature in window.features] == NAMES
        for answer in (window, everything):
            assert {feature.name for feature in answer.features if feature.persistent} == lasts
        assert ({feature.name for feature in window.features if feature.drifted} == set()) == (shift == 0)
    samples = scrape(running.metrics_url)
    spans = {sample.labels["window"] for sample in samples if sample.name == "tidegate_drift_psi"}
    assert spans == {"all", "1000rows"}, "an hour has not been completed"
    assert value(samples, "tidegate_drift_detected") == 1


def test_window_that_was_never_completed_is_answered_without_features(served: Daemon) -> None:
    send(served)
    answer = drift(served, window="1440m")
    assert (answer.window, answer.rows, len(answer.features), answer.ended) == ("24h", 0, 0, 0)
    assert answer.started > 1e9


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"window": "2h"}, "no window '2h'; those of this version: 1h, 6h, 24h, 10000rows"),
        ({"window": "an hour"}, "no window 'an hour'; those of this version: 1h, 6h, 24h, 10000rows"),
        ({"arm": "direct"}, "no arm 'direct': stable, canary, shadow"),
    ],
)
def test_unknown_window_or_arm_is_refused_and_told_what_there_is(served: Daemon, asked: dict[str, str], says: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        drift(served, **asked)
    assert (caught.value.code(), reason(caught.value)) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_MISMATCH")
    assert says in (caught.value.details() or "")


def test_counts_go_on_when_a_version_was_unloaded_and_is_loaded_again(registry: Registry, running: Daemon) -> None:
    answered = [send(running)]
    for version in ("2", "3"):
        registry.promote("classifier", int(version), to="production", actor="test", reason="next")
        wait_until(lambda version=version: answered.append(send(running)) or answered[-1] == version, "not followed")  # type: ignore[misc,func-returns-value]
    wait_until(lambda: not _exported(running, "1"), "version 1 is still loaded")
    registry.promote("classifier", 1, to="production", actor="test", reason="back")
    wait_until(lambda: bool(_exported(running, "1")), "version 1 is not loaded again")
    assert counted(running, version="1") == 1000 * answered.count("1")


def _exported(running: Daemon, version: str) -> list[float]:
    name = "tidegate_drift_rows_total"
    return [sample.value for sample in scrape(running.metrics_url) if sample.name == name and sample.labels["version"] == version]


def test_features_that_no_tensor_has_are_told_in_log_metric_and_answer(tmp_path: Path) -> None:
    registry = create_registry(str(tmp_path / "registry"))
    signature = Signature((TensorSpec("numeric", "FP32", (-1, 3)),), (TensorSpec("scaled", "FP32", (-1, 3)),))
    profile = Profile(3, (numeric_feature("a", [1.0, 2.0, 3.0]),), ())
    files = {bundle.MODEL: models.scaled(2.0), bundle.SIGNATURE: signature.encode(), bundle.PROFILE: profile.encode()}
    registry.register("classifier", files, {}, actor="test", reason="columns without names")
    registry.promote("classifier", 1, to="production", actor="test", reason="first")
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as running:
        running.wait_for("classifier")
        running.stub.ModelInfer(raw_request("classifier", {"numeric": np.ones((5, 3), np.float32)}), timeout=10)
        wait_until(lambda: counted(running) == 5, "rows are missing", 10)
        answer = drift(running)
        assert (list(answer.uncounted), list(answer.features)) == (["a"], [])
        samples = scrape(running.metrics_url)
        assert value(samples, "tidegate_drift_features_uncounted", model="classifier", version="1") == 1
        assert not [sample for sample in samples if sample.labels.get("feature") == "a"], "not counted is not zero"
        (told,) = [json.loads(line) for line in running.program.log.read_text().splitlines() if "not counted" in line]
        assert (told["features"], told["model"], told["version"]) == (["a"], "classifier", 1)
