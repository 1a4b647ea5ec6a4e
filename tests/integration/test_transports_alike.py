"""The same seeded traffic over each transport: the same answers and refusals, and the same integers in every count of it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import numpy as np
import pytest

from registry.location import create_registry
from registry.profile import bin_edges
from registry.route import Target
from server.counts import COUNTED_ARMS
from server.transports import native_is_installed
from tests import models
from tests.contracts.transport.calls import raw_request, reason
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape
from tidegate_protos import inference_pb2 as pb
from tidegate_protos import monitoring_pb2, monitoring_pb2_grpc

SEED = 23
REQUESTS = 400
MAX_BATCH_ROWS = 8
REFERENCE = np.random.default_rng(SEED).normal(size=(500, 3)).astype(np.float32)
TEXTS = ["red"] * 250 + ["green"] * 150 + ["blåbär"] * 50 + [""] * 50
UNUSUAL = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 3e38, 1e-45]
KINDS = ["red", "green", "blåbär", "", "never seen", "RED", "x" * 300]

Answer: TypeAlias = tuple[str, str, list[tuple[str, str, list[int]]], list[Any]]


@dataclass(frozen=True)
class Counted:
    """All a daemon has counted: requests by labels, rows and bins of each version and arm."""

    requests: dict[tuple[str, ...], float]
    rows: dict[tuple[str, str], int]
    bins: dict[tuple[str, str, str], list[int]]


def traffic() -> list[pb.ModelInferRequest]:
    """Requests of 1 to 20 rows, which are more than a batch: by key or version, for some outputs or all, typed or raw; some do not fit."""
    generator = np.random.default_rng(SEED)
    edges = [bin_edges(np.quantile(REFERENCE[:, place], np.arange(1, 20) / 20, method="lower"), np.float32(-99)) for place in range(3)]
    return [_request(generator, number, edges) for number in range(REQUESTS)]


def _request(generator: np.random.Generator, number: int, edges: Sequence[Sequence[float]]) -> pb.ModelInferRequest:
    rows = int(generator.integers(1, 21))
    numeric = generator.normal(scale=2, size=(rows, 3)).astype(np.float32)
    # Not the first column: what is computed of it may differ in its last bit with the batch it is computed in.
    for place in (1, 2):
        at_an_edge = generator.random(rows) < 0.3
        numeric[at_an_edge, place] = generator.choice(edges[place], at_an_edge.sum())
    unusual = generator.random(numeric.shape) < 0.05
    numeric[unusual] = generator.choice(UNUSUAL, unusual.sum())
    kinds = generator.choice(np.array(KINDS, object), (rows, 1))
    version = str(generator.choice(["", "", "", "1", "2", "staging", "9"]))
    if generator.random() < 0.05:
        numeric = numeric[:, :2]
    request = raw_request("classifier", {"numeric": numeric, "categorical": kinds}, version, f"request-{number}")
    if generator.random() < 0.5:
        request.parameters["tidegate_routing_key"].string_param = f"customer-{generator.integers(40)}"
    if generator.random() < 0.3:
        _as_typed(request, numeric, kinds)
    wanted = generator.choice(["all", "echo", "probabilities"])
    if wanted != "all":
        request.outputs.add(name=str(wanted))
    return request


def _as_typed(request: pb.ModelInferRequest, numeric: np.ndarray[Any, Any], kinds: np.ndarray[Any, Any]) -> None:
    del request.raw_input_contents[:]
    request.inputs[0].contents.fp32_contents.extend(numeric.ravel().tolist())
    request.inputs[1].contents.bytes_contents.extend([kind.encode() for kind in kinds.ravel()])


def fill(place: Path) -> None:
    """Two versions share the traffic, a third shadows them."""
    registry = create_registry(str(place))
    for weight in (2.0, 3.0, 4.0):
        models.register_classifier(registry, "classifier", weight, REFERENCE, TEXTS)
    registry.promote("classifier", 2, to="staging", actor="test", reason="next")
    registry.route("classifier", Target(1, {1: 60, 2: 40}, (3,)), actor="test", reason="canary and shadow")


def answered(running: Daemon, request: pb.ModelInferRequest) -> Answer:
    """Status, version or reason, and what was answered: names, datatypes and shapes, and values."""
    try:
        answer = running.stub.ModelInfer(request, timeout=30)
    except grpc.RpcError as error:
        return error.code().name, reason(error), [], [error.details()]
    outputs = [(output.name, output.datatype, list(output.shape)) for output in answer.outputs]
    return "OK", answer.model_version, outputs, [answer.id, *map(_values, answer.outputs), *answer.raw_output_contents]


def _values(output: pb.ModelInferResponse.InferOutputTensor) -> list[Any]:
    return [*output.contents.fp32_contents, *output.contents.bytes_contents]


def alike(first: Answer, second: Answer) -> bool:
    """The same, but for the last bit of what was computed: it may differ with the batch it was computed in."""
    if first[:3] != second[:3] or len(first[3]) != len(second[3]):
        return False
    return all(one == other or _close(one, other) for one, other in zip(first[3], second[3], strict=True))


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, bytes) and isinstance(other, bytes) and len(one) == len(other) and len(one) % 4 == 0:
        one, other = np.frombuffer(one, np.float32), np.frombuffer(other, np.float32)
    elif not (isinstance(one, list) and isinstance(other, list) and len(one) == len(other) and not isinstance(one[0], bytes)):
        return False
    return bool(np.allclose(one, other, rtol=1e-6, atol=0, equal_nan=True))


def requests_of(running: Daemon) -> dict[tuple[str, ...], float]:
    """How many requests it has answered, by model, version, arm and code."""
    labels = ("model", "version", "arm", "code")
    samples = [sample for sample in scrape(running.metrics_url) if sample.name == "tidegate_requests_total"]
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in samples}


def drift_of(running: Daemon) -> dict[tuple[str, str], monitoring_pb2.GetDriftResponse]:
    """The drift of each version and arm, production traffic being that of none."""
    found = {}
    with grpc.insecure_channel(running.address) as channel:
        stub = monitoring_pb2_grpc.MonitoringServiceStub(channel)  # type: ignore[no-untyped-call]
        for version in ("1", "2", "3"):
            for arm in ("", *COUNTED_ARMS):
                asked = monitoring_pb2.GetDriftRequest(model="classifier", version=version, arm=arm)
                found[version, arm] = stub.GetDrift(asked, timeout=10)
    return found


def counted(running: Daemon, requests: int, rows: int) -> Counted:
    """What it has counted once so many requests of so many rows are, by production and by its shadow: that is after they were answered."""

    def is_done() -> bool:
        drift = drift_of(running)
        seen = [drift["1", ""].rows + drift["2", ""].rows, drift["3", "shadow"].rows]
        return seen == [rows, rows] and requests_of(running).get(("classifier", "3", "shadow", "OK")) == requests

    wait_until(is_done, "not all is counted")
    drift = drift_of(running)
    bins = {(*key, feature.name): list(feature.observed) for key, found in drift.items() for feature in found.features}
    return Counted(requests_of(running), {key: found.rows for key, found in drift.items()}, bins)


def served(name: str, registry: Path, folder: Path) -> tuple[list[Answer], Counted]:
    """What a daemon with this transport answers and counts."""
    folder.mkdir()
    flags = {"registry": str(registry), "transport": name, "max-batch-rows": str(MAX_BATCH_ROWS)}
    with daemon(folder, flags) as running, ThreadPoolExecutor(8) as callers:
        for version in ("1", "2", "3"):
            running.wait_for("classifier", version)
        sent = traffic()
        answers = list(callers.map(lambda request: answered(running, request), sent))
        pairs = zip(sent, answers, strict=True)
        rows = [request.inputs[0].shape[0] for request, answer in pairs if answer[0] == "OK" and not request.model_version]
        return answers, counted(running, len(rows), sum(rows))


@pytest.mark.skipif(not native_is_installed(), reason="the native transport is not installed; `make native` does that")
def test_seeded_traffic_is_answered_and_counted_alike_by_both_transports(tmp_path: Path) -> None:
    place = tmp_path / "registry"
    fill(place)
    (reference, expected), (answers, counts) = (served(name, place, tmp_path / name) for name in ("grpcio", "native"))
    for number, (first, second) in enumerate(zip(reference, answers, strict=True)):
        assert alike(first, second), f"seed {SEED}, request {number}"
    statuses = {answer[0] for answer in reference}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= statuses
    assert counts.requests == expected.requests
    assert counts.rows == expected.rows
    assert counts.bins == expected.bins
    for version, arm in (("1", "stable"), ("2", "canary"), ("3", "shadow")):
        assert expected.rows[version, arm] > 500
        assert min(map(min, (expected.bins[version, arm, name] for name in ("b", "c", "kind")))) > 0, "every bin is tried, missing too"
