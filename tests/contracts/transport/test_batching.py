"""Batches over the wire: requests of any size, priorities, time in the queue, and the outputs a caller asks for."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest

from registry import bundle
from registry.bundle import Signature, TensorSpec
from registry.location import create_registry
from tests import models
from tests.contracts.transport.calls import in_flight, raw_floats, raw_request, reason
from tests.contracts.transport.conftest import REFERENCE, TEXTS
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value
from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)
MAX_BATCH_ROWS = 8
SLOW = Signature((TensorSpec("numeric", "FP32", (-1, 3), models.COLUMNS),), (TensorSpec("scaled", "FP32", (-1, 3)),))


@pytest.fixture(scope="module")
def batching(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Daemon]:
    """Batches of at most 8 rows; `slow` takes some 50 ms a run."""
    folder = tmp_path_factory.mktemp(f"batching-{transport}")
    registry = create_registry(str(folder / "registry"))
    models.register_scaled(registry, "scaled", 2.0)
    models.register_classifier(registry, "classifier", 2.0, REFERENCE, TEXTS)
    registry.register("slow", {bundle.MODEL: models.slow(60_000), bundle.SIGNATURE: SLOW.encode()}, {}, actor="test", reason="slow")
    for model in ("scaled", "classifier", "slow"):
        registry.promote(model, 1, to="production", actor="test", reason="first")
    with daemon(folder, {"registry": str(folder / "registry"), "max-batch-rows": str(MAX_BATCH_ROWS)}) as running:
        for model in ("scaled", "classifier", "slow"):
            running.wait_for(model)
        yield running


def with_parameters(request: pb.ModelInferRequest, **parameters: int) -> pb.ModelInferRequest:
    for name, number in parameters.items():
        request.parameters[name].int64_param = number
    return request


def queued(running: Daemon, model: str) -> float:
    return value(scrape(running.metrics_url), "tidegate_queue_rows", model=model)


def hold(running: Daemon, caller: "grpc.Channel | None" = None, runs: int = 8) -> "list[grpc.Future[pb.ModelInferResponse]]":
    """Keep `slow` busy for some runs, and return once they wait."""
    request = raw_request("slow", {"numeric": np.ones((MAX_BATCH_ROWS, 3), np.float32)})
    send = infer_of(caller) if caller else running.stub.ModelInfer
    busy = [send.future(request, timeout=30) for _ in range(runs)]
    wait_until(lambda: queued(running, "slow") >= MAX_BATCH_ROWS * (runs - 2), "nothing waits", 5)
    return busy


def infer_of(channel: grpc.Channel) -> "grpc.UnaryUnaryMultiCallable[pb.ModelInferRequest, pb.ModelInferResponse]":
    return channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString
    )


def test_request_of_a_thousand_rows_is_the_same_as_its_rows_one_by_one(batching: Daemon) -> None:
    rows = {"numeric": REFERENCE, "categorical": np.array(TEXTS, object).reshape(-1, 1)}
    whole = batching.stub.ModelInfer(raw_request("classifier", rows), timeout=20)
    assert raw_floats(whole).shape == (1000, 2)

    def one(place: int) -> pb.ModelInferResponse:
        return batching.stub.ModelInfer(  # type: ignore[no-any-return]
            raw_request("classifier", {name: tensor[place : place + 1] for name, tensor in rows.items()}), timeout=20
        )

    with ThreadPoolExecutor(8) as pool:
        singles = list(pool.map(one, range(0, 1000, 10)))
    np.testing.assert_allclose(np.concatenate([raw_floats(single) for single in singles]), raw_floats(whole)[::10], rtol=1e-6)
    texts = whole.raw_output_contents[1]
    assert texts == b"".join(len(text).to_bytes(4, "little") + text.encode() for text in TEXTS)


def test_batches_are_never_larger_than_they_may_be(batching: Daemon) -> None:
    with ThreadPoolExecutor(16) as pool:
        sizes = [n % 12 + 1 for n in range(200)]
        answers = list(
            pool.map(
                lambda n: batching.stub.ModelInfer(raw_request("scaled", {"numeric": np.full((n, 3), n, np.float32)}), timeout=20), sizes
            )
        )
    for n, answer in zip(sizes, answers, strict=True):
        assert (raw_floats(answer) == np.full((n, 3), 2 * n)).all()
    samples = scrape(batching.metrics_url)
    assert value(samples, "tidegate_batch_rows_bucket", model="scaled", le="8") == value(
        samples, "tidegate_batch_rows_count", model="scaled"
    )


def test_single_row_overtakes_another_caller_s_thousand(batching: Daemon) -> None:
    with grpc.insecure_channel(batching.address, [("grpc.use_local_subchannel_pool", 1)]) as greedy:
        busy = hold(batching, greedy, runs=20)
        answer = batching.stub.ModelInfer(raw_request("slow", {"numeric": ROW}), timeout=20)
        assert raw_floats(answer).shape == (1, 3)
        assert sum(call.done() for call in busy) <= 10, "it waited for all the rows of another caller"
        assert all(raw_floats(call.result()).shape == (MAX_BATCH_ROWS, 3) for call in busy)


def test_urgent_request_overtakes_its_own_caller(batching: Daemon) -> None:
    busy = hold(batching, runs=12)
    batching.stub.ModelInfer(with_parameters(raw_request("slow", {"numeric": ROW}), priority=1), timeout=20)
    assert sum(call.done() for call in busy) <= 6
    for call in busy:
        call.result()


def test_deadline_that_another_caller_s_rows_do_not_touch_is_not_refused_for_them(batching: Daemon) -> None:
    with grpc.insecure_channel(batching.address, [("grpc.use_local_subchannel_pool", 1)]) as greedy:
        for _ in range(5):
            batching.stub.ModelInfer(raw_request("slow", {"numeric": ROW}), timeout=20)
        busy = hold(batching, greedy, runs=30)
        answer = batching.stub.ModelInfer(raw_request("slow", {"numeric": ROW}), timeout=1.5)
        assert raw_floats(answer).shape == (1, 3)
        for call in busy:
            call.cancel()
    wait_until(lambda: in_flight(batching) == 0, "cancelled requests are in flight", 10)


def test_timeout_that_passes_in_the_queue_is_deadline_exceeded(batching: Daemon) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        batching.stub.ModelInfer(with_parameters(raw_request("scaled", {"numeric": ROW}), timeout=1), timeout=20)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason(caught.value) == "DEADLINE_EXCEEDED"
    answer = batching.stub.ModelInfer(with_parameters(raw_request("scaled", {"numeric": ROW}), timeout=10_000_000), timeout=20)
    assert answer.model_version == "1"


def test_timing_is_told_if_it_is_asked_for(batching: Daemon) -> None:
    request = raw_request("scaled", {"numeric": np.ones((20, 3), np.float32)})
    assert not batching.stub.ModelInfer(request, timeout=20).parameters
    request.parameters["tidegate_timing"].bool_param = True
    timing = json.loads(batching.stub.ModelInfer(request, timeout=20).parameters["tidegate_timing"].string_param)
    assert set(timing) == {"batch_rows", "compute_seconds", "queue_seconds"}
    assert timing["batch_rows"] == MAX_BATCH_ROWS
    assert 0 < timing["compute_seconds"] < 20
    assert 0 <= timing["queue_seconds"] < 20


def test_unknown_parameter_of_ours_is_refused_and_others_are_let_pass(batching: Daemon) -> None:
    assert (
        batching.stub.ModelInfer(with_parameters(raw_request("scaled", {"numeric": ROW}), sequence_id=3), timeout=20).model_version == "1"
    )
    with pytest.raises(grpc.RpcError, match="no parameter 'tidegate_time'") as caught:
        batching.stub.ModelInfer(with_parameters(raw_request("scaled", {"numeric": ROW}), tidegate_time=3), timeout=20)
    assert reason(caught.value) == "INPUT_MISMATCH"


def test_each_caller_gets_the_outputs_it_asked_for_in_its_order_whoever_shares_its_batch(batching: Daemon) -> None:
    wanted = [[], ["echo"], ["probabilities"], ["echo", "probabilities"]]

    def ask(number: int) -> bool:
        text = f"text-{number}"
        request = raw_request("classifier", {"numeric": np.full((1, 3), number, np.float32), "categorical": np.array([[text]], object)})
        names = wanted[number % 4]
        for name in names:
            request.outputs.add(name=name)
        answer = batching.stub.ModelInfer(request, timeout=20)
        got = {output.name: data for output, data in zip(answer.outputs, answer.raw_output_contents, strict=True)}
        echoed = got.get("echo", len(text).to_bytes(4, "little") + text.encode())
        return [output.name for output in answer.outputs] == (names or ["probabilities", "echo"]) and echoed[4:] == text.encode()

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))


def test_rows_of_requests_that_asked_for_other_outputs_are_counted_for_drift(batching: Daemon) -> None:
    def counted(feature: str) -> float:
        return value(scrape(batching.metrics_url), "tidegate_drift_bin_total", model="classifier", feature=feature)

    def counts() -> dict[str, float]:
        return {feature: counted(feature) for feature in ("kind", "score", "class")}

    # What other tests asked for is counted after its answer, so perhaps only now: that counts alike for all three.
    wait_until(lambda: len(set(counts().values())) == 1, "not counted alike", 5)
    before = counted("kind")
    request = raw_request("classifier", {"numeric": ROW, "categorical": np.array([["red"]], object)})
    request.outputs.add(name="echo")
    batching.stub.ModelInfer(request, timeout=20)
    wait_until(lambda: counted("kind") > before, "not counted", 5)
    assert len(set(counts().values())) == 1


def test_folder_given_as_model_dir_batches_too(tmp_path: Path) -> None:
    folder = tmp_path / "doubled"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(models.scaled(2.0))
    with daemon(tmp_path, {"model-dir": str(folder), "max-batch-rows": "8"}) as running:
        running.wait_for("doubled")
        answer = running.stub.ModelInfer(raw_request("doubled", {"numeric": REFERENCE}), timeout=20)
        assert (raw_floats(answer) == REFERENCE * 2).all()
