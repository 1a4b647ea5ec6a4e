"""What the service says of tables and counts that a running daemon seldom has: versions on their way or failed, odd counts, many models."""

import time
from pathlib import Path
from types import MappingProxyType

import pytest

from registry.bundle import Signature
from server.counts import ROWS, SECONDS, Counters, Histogram, VersionCounts
from server.errors import (
    CancelledError,
    DeadlineUnreachableError,
    DrainingError,
    FeedbackNotStoredError,
    ModelLoadingError,
    QueueFullError,
    RateLimitedError,
)
from server.grpc_errors import STATUS
from server.loaded_version import LoadedVersion
from server.model_config import Batching
from server.onnx_engine import OnnxEngine
from server.routing import RoutingTable, ServedModel
from server.service import EXTENSIONS, INFERENCE, Service
from tests import models
from tidegate_protos import inference_pb2 as pb

ENGINE = OnnxEngine(models.scaled(2.0), threads=1)
NOTHING = Counters({}, {}, {}, {}, {})
DEFAULT = Batching(1024, 0.0)
RETRIED = {QueueFullError, DeadlineUnreachableError, RateLimitedError, ModelLoadingError, DrainingError, FeedbackNotStoredError}


def version(model: str, number: int, signature: Signature = ENGINE.signature, *, batchable: bool = True) -> LoadedVersion:
    return LoadedVersion(model, number, "0" * 64, signature, ENGINE, None, 0.1, batchable=batchable)


def service(*served: tuple[str, ServedModel], counters: Counters = NOTHING, batching: Batching = DEFAULT) -> Service:
    made = Service(lambda: counters, batching)
    made.install(RoutingTable(MappingProxyType(dict(served)), complete=True))
    return made


def index(made: Service, *, ready: bool = False) -> list[tuple[str, str, str, str]]:
    answer = made.calls()[f"/{INFERENCE}/RepositoryIndex"](pb.RepositoryIndexRequest(ready=ready).SerializeToString())
    return [(model.name, model.version, model.state, model.reason) for model in pb.RepositoryIndexResponse.FromString(answer).models]


def statistics(made: Service, name: str = "", label: str = "") -> list[pb.ModelStatistics]:
    answer = made.calls()[f"/{INFERENCE}/ModelStatistics"](pb.ModelStatisticsRequest(name=name, version=label).SerializeToString())
    return list(pb.ModelStatisticsResponse.FromString(answer).model_stats)


def config(made: Service, name: str) -> pb.ModelConfig:
    answer = made.calls()[f"/{INFERENCE}/ModelConfig"](pb.ModelConfigRequest(name=name).SerializeToString())
    return pb.ModelConfigResponse.FromString(answer).config


def test_index_tells_loading_from_failed_from_unwanted() -> None:
    served = ServedModel(
        MappingProxyType({2: version("m", 2)}),
        MappingProxyType({"production": 2, "staging": 4}),
        (1, 2, 3, 4, 5, 6, 7),
        shadows=(5, 6),
        failures=MappingProxyType({3: "its golden rows come out differently", 6: "its digest is another"}),
    )
    unwanted = "in no stage and not routed: promote it to have it served"
    assert index(service(("m", served))) == [
        ("m", "1", "UNAVAILABLE", unwanted),
        ("m", "2", "READY", ""),
        ("m", "3", "UNAVAILABLE", "its golden rows come out differently"),
        ("m", "4", "LOADING", "not loaded yet"),
        ("m", "5", "LOADING", "not loaded yet"),
        ("m", "6", "UNAVAILABLE", "its digest is another"),
        ("m", "7", "UNAVAILABLE", unwanted),
    ]
    assert index(service(("m", served)), ready=True) == [("m", "2", "READY", "")]


def test_a_registry_not_read_yet_is_no_empty_registry() -> None:
    unread = Service(lambda: NOTHING, DEFAULT)
    for call in (lambda: index(unread), lambda: statistics(unread), lambda: statistics(unread, "m")):
        with pytest.raises(ModelLoadingError, match="still reading"):
            call()
    assert index(service()) == statistics(service()) == []


def test_index_and_statistics_of_a_thousand_models_are_quick() -> None:
    served = [
        (f"m{place}", ServedModel(MappingProxyType({9: version(f"m{place}", 9)}), MappingProxyType({"production": 9}), tuple(range(1, 10))))
        for place in range(1000)
    ]
    counters = Counters(
        {(name, "9", arm, code): 1 for name, _ in served for arm in ("stable", "direct") for code in ("OK", "INTERNAL")},
        {},
        {(name, 9): _counts() for name, _ in served},
        {},
        {},
    )
    made = service(*served, counters=counters)
    start = time.perf_counter()
    assert len(index(made)) == 9000
    assert len(statistics(made)) == 1000
    assert time.perf_counter() - start < 1


def test_statistics_add_up_arms_and_tell_success_from_failure() -> None:
    requests = {
        ("m", "1", "stable", "OK"): 5,
        ("m", "1", "shadow", "OK"): 1,
        ("m", "1", "stable", "RESOURCE_EXHAUSTED"): 1,
        ("m", "1", "direct", "INTERNAL"): 1,
        ("m", "11", "stable", "OK"): 100,
        ("", "", "", "NOT_FOUND"): 100,
    }
    served = ServedModel(MappingProxyType({1: version("m", 1), 2: version("m", 2)}), MappingProxyType({"production": 1}), (1, 2))
    first, second = statistics(service(("m", served), counters=Counters(requests, {}, {("m", 1): _counts()}, {}, {})))
    assert (first.inference_count, first.execution_count, first.last_inference) == (7, 3, 1_700_000_000_500)
    stats = first.inference_stats
    assert (stats.success.count, stats.success.ns) == (6, 700_000_000)
    assert (stats.fail.count, stats.fail.ns) == (2, 100_000_000)
    assert (stats.queue.count, stats.queue.ns) == (6, 1_000_000)
    assert (stats.compute_infer.count, stats.compute_infer.ns) == (3, 60_000_000)
    assert (second.version, second.inference_count, second.inference_stats.success.count) == ("2", 0, 0)


def test_configuration_gives_the_limits_that_are_set() -> None:
    served = ServedModel(MappingProxyType({1: version("m", 1)}), MappingProxyType({"production": 1}), (1,))
    described = config(service(("m", served), batching=Batching(64, 0.0025)), "m")
    assert described.max_batch_size == 64
    assert described.dynamic_batching.max_queue_delay_microseconds == 2500
    assert config(service(("m", served), batching=Batching(1 << 40, 0.0)), "m").max_batch_size == (1 << 31) - 1


def test_configuration_of_a_version_whose_rows_were_found_to_mix_has_no_batching() -> None:
    mixing = version("m", 1, batchable=False)
    served = ServedModel(MappingProxyType({1: mixing}), MappingProxyType({"production": 1}), (1,))
    described = config(service(("m", served)), "m")
    assert (described.max_batch_size, described.HasField("dynamic_batching")) == (0, False)
    assert list(described.input[0].dims) == [-1, 3]


def test_protocol_page_tells_of_every_call_and_of_every_refusal_a_caller_can_read() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text("utf-8")
    assert [call for call in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name if f"`{call}`" not in page] == []
    for error, code in STATUS.items():
        retried = "retry |" if error in RETRIED else "|"
        if error is not CancelledError:
            assert f"| {code.name} | {error.reason} | {retried}\n" in page
    assert [name for name in EXTENSIONS if f"`{name}`" not in page] == []


def _counts() -> VersionCounts:
    return VersionCounts(
        request_seconds=_histogram(SECONDS, 8, 0.8),
        queue_seconds=_histogram(SECONDS, 6, 0.001),
        compute_seconds=_histogram(SECONDS, 3, 0.06),
        batch_rows=_histogram(ROWS, 3, 7.0),
        failed_seconds=0.1,
        last_answer=1_700_000_000.5,
    )


def _histogram(bounds: tuple[float, ...], number: int, total: float) -> Histogram:
    return Histogram(bounds, (number - 1, 1, *[0] * (len(bounds) - 1)), total)
