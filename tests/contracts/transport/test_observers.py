"""What the prediction log and the tracer are told of requests that really were answered."""

from pathlib import Path

import duckdb
import grpc
import numpy as np
import pytest

from registry.location import create_registry
from registry.route import Target
from tests import models
from tests.contracts.transport.calls import raw_request
from tests.contracts.transport.wire import wire
from tests.daemons import Daemon, daemon, wait_until
from tests.exposition import scrape, value
from tests.otlp import receiving

DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry with `scaled`: version 1 stable, version 2 its shadow."""
    root = tmp_path / "registry"
    registry = create_registry(str(root))
    for factor in (2.0, 3.0):
        models.register_scaled(registry, "scaled", factor)
    registry.route("scaled", Target(1, shadows=(2,)), actor="test", reason="log")
    return root


def test_every_row_of_every_arm_stands_in_the_prediction_log_with_its_answer(root: Path, tmp_path: Path) -> None:
    flags = {"registry": str(root), "prediction-log": str(tmp_path / "log"), "max-batch-rows": "8"}
    with daemon(tmp_path, flags) as running:
        running.wait_for("scaled")
        running.wait_for("scaled", "2")
        rows = np.arange(60, dtype=np.float32).reshape(20, 3)
        running.stub.ModelInfer(raw_request("scaled", {"numeric": rows}, prediction_id="large"), timeout=10)
        for number in range(5):
            running.stub.ModelInfer(raw_request("scaled", {"numeric": rows[:1] + number}, prediction_id=f"small-{number}"), timeout=10)
        running.stub.ModelInfer(raw_request("scaled", {"numeric": rows[:1]}, version="2", prediction_id="direct"), timeout=10)
        wait_until(
            lambda: value(scrape(running.metrics_url), "tidegate_batch_rows_sum", version="2") == 26, "the shadow has not answered all", 5
        )
    found = duckdb.connect().execute(
        f"SELECT prediction_id, row, arm, version, a, scaled[1] FROM read_parquet('{tmp_path}/log/**/*.parquet') ORDER BY ALL"  # noqa: S608 -- a path of ours
    )
    logged = set(found.fetchall())
    expected = {("large", row, arm, v, 3.0 * row, 3.0 * row * factor) for row in range(20) for arm, v, factor in _ARMS}
    expected |= {(f"small-{n}", 0, arm, v, float(n), n * factor) for n in range(5) for arm, v, factor in _ARMS}
    assert logged == expected | {("direct", 0, "direct", 2, 0.0, 0.0)}


_ARMS = (("stable", 1, 2.0), ("shadow", 2, 3.0))


def test_spans_of_an_answer_and_of_refusals_join_the_traces_of_their_callers(root: Path, tmp_path: Path) -> None:
    row = {"numeric": np.ones((1, 3), np.float32)}
    with receiving() as receiver, daemon(tmp_path, {"registry": str(root), "tracing": receiver.address, "tracing-share": "0"}) as running:
        running.wait_for("scaled")
        metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"),)
        running.stub.ModelInfer(raw_request("scaled", row), timeout=5, metadata=metadata)
        running.stub.ModelInfer(raw_request("scaled", row), timeout=5)
        for request in (raw_request("nobody", row), raw_request("scaled", {"numeric": np.ones((1, 2), np.float32)})):
            with pytest.raises(grpc.RpcError):
                running.stub.ModelInfer(request, timeout=5, metadata=metadata)
        wait_until(lambda: len(receiver.spans) >= 5, "spans are missing", 15)
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
    names = ("tidegate.model", "tidegate.version", "rpc.grpc.status_code", "tidegate.rows")
    stated = [{item.key: item.value for item in span.attributes} for span in receiver.spans if span.attributes]
    seen = {(found[names[0]].string_value, *[found[name].int_value for name in names[1:]]) for found in stated}
    assert seen == {("scaled", 1, 0, 1), ("", 0, 5, 0), ("scaled", 1, 3, 0)}


def reasons(running: Daemon) -> set[str]:
    """Why calls of no model were refused so far."""
    samples = [sample for sample in scrape(running.metrics_url) if sample.name == "tidegate_rejected_total" and not sample.labels["model"]]
    return {sample.labels["reason"] for sample in samples if sample.value}


def test_calls_that_were_given_up_before_they_came_are_counted_and_traced_as_any_refusal(root: Path, tmp_path: Path) -> None:
    with receiving() as receiver, daemon(tmp_path, {"registry": str(root), "tracing": receiver.address, "tracing-share": "0"}) as running:
        running.wait_for("scaled")
        with wire(running.address) as caller:

            def one_is_counted() -> bool:
                caller.open(grpc_timeout="1n", traceparent=f"00-{TRACE}-{PARENT}-01")
                caller.flush()
                return DEADLINE_EXCEEDED in reasons(running)

            # gRPC's C core may answer any of them by itself: another goes with each look.
            # The connection stays: what has not been read of one that is reset may never be.
            wait_until(one_is_counted, "none is counted", 15)
        series = {"model": "", "reason": DEADLINE_EXCEEDED}
        wait_until(lambda: bool(receiver.spans), "none is traced", 15)
        refused = value(scrape(running.metrics_url), "tidegate_rejected_total", **series)
        wait_until(lambda: len(receiver.spans) >= refused, "not all are traced", 15)
        assert value(scrape(running.metrics_url), "tidegate_requests_total", model="", code="DEADLINE_EXCEEDED") == refused
    assert {span.trace_id.hex() for span in receiver.spans} == {TRACE}
