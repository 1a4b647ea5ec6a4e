"""Every call but inference, as Triton's own client makes it: what is served, how, and what it has answered."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from tests.contracts.transport.calls import raw_request, reason
from tests.daemons import Daemon, wait_until
from tidegate_protos import inference_pb2 as pb


@pytest.fixture
def client(served: Daemon) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.address) as connected:
        yield connected


def statistics(client: triton.InferenceServerClient, model: str, version: str = "") -> Any:
    [entry] = client.get_inference_statistics(model, version).model_stats
    return entry


def test_extensions_are_named_as_triton_names_them(client: triton.InferenceServerClient) -> None:
    extensions = client.get_server_metadata().extensions
    assert list(extensions) == ["model_repository", "model_configuration", "statistics", "schedule_policy"]


def test_configuration_of_a_batchable_model_has_dims_without_the_batch(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("classifier", as_json=True)["config"]
    assert config["name"] == "classifier"
    assert (config["platform"], config["backend"]) == ("onnxruntime_onnx", "onnxruntime")
    assert config["max_batch_size"] == 1024
    assert config["input"] == [
        {"name": "numeric", "data_type": "TYPE_FP32", "dims": ["3"]},
        {"name": "categorical", "data_type": "TYPE_STRING", "dims": ["1"]},
    ]
    assert config["output"] == [
        {"name": "probabilities", "data_type": "TYPE_FP32", "dims": ["2"]},
        {"name": "echo", "data_type": "TYPE_STRING", "dims": ["1"]},
    ]
    batching = config["dynamic_batching"]
    assert (batching["priority_levels"], batching["default_priority_level"]) == ("3", "2")
    assert batching["default_queue_policy"] == {"allow_timeout_override": True}


def test_configuration_of_a_model_without_rows_has_whole_shapes_and_no_batching(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("total").config
    assert config.max_batch_size == 0
    assert [list(tensor.dims) for tensor in (*config.input, *config.output)] == [[4], []]
    assert not config.HasField("dynamic_batching")


@pytest.mark.parametrize(("label", "version"), [("", "1"), ("production", "1"), ("staging", "2"), ("2", "2")])
def test_configuration_is_that_of_the_version_asked_for(client: triton.InferenceServerClient, label: str, version: str) -> None:
    config = client.get_model_config("scaled", label).config
    assert config.parameters["tidegate.version"].string_value == version
    assert list(config.version_policy.specific.versions) == [1, 2]


def test_statistics_count_requests_rows_and_runs_of_a_version(served: Daemon, client: triton.InferenceServerClient) -> None:
    before = statistics(client, "lookup")
    for indexes in ([1], [2, 3, 4]):
        served.stub.ModelInfer(raw_request("lookup", {"index": np.array(indexes, np.int64)}), timeout=10)
    with pytest.raises(grpc.RpcError):
        served.stub.ModelInfer(raw_request("lookup", {"index": np.array([99], np.int64)}), timeout=10)
    wait_until(
        lambda: (
            statistics(client, "lookup").execution_count == before.execution_count + 2
            and statistics(client, "lookup").inference_stats.fail.count > before.inference_stats.fail.count
        ),
        "the runs were not counted",
    )
    after = statistics(client, "lookup")
    assert (after.name, after.version) == ("lookup", "1")
    assert after.inference_count - before.inference_count == 4
    assert after.inference_stats.success.count - before.inference_stats.success.count == 2
    assert after.inference_stats.fail.count - before.inference_stats.fail.count == 1
    assert after.inference_stats.queue.count - before.inference_stats.queue.count == 2
    assert after.inference_stats.compute_infer.count - before.inference_stats.compute_infer.count == 2
    assert after.inference_stats.fail.ns > before.inference_stats.fail.ns
    assert 0 < after.inference_stats.compute_infer.ns < after.inference_stats.success.ns + after.inference_stats.fail.ns


def test_statistics_say_when_the_last_run_was_done(served: Daemon, client: triton.InferenceServerClient) -> None:
    started = time.time()
    served.stub.ModelInfer(raw_request("total", {"numbers": np.ones(4, np.float32)}), timeout=10)
    wait_until(lambda: statistics(client, "total").last_inference >= int(started * 1000), "the last run has no time", 5)
    assert statistics(client, "total").last_inference <= time.time() * 1000


def test_statistics_without_a_name_are_those_of_every_loaded_version(client: triton.InferenceServerClient) -> None:
    everything = [(entry.name, entry.version) for entry in client.get_inference_statistics().model_stats]
    assert everything == sorted(everything)
    assert {("classifier", "1"), ("lookup", "1"), ("scaled", "1"), ("scaled", "2"), ("total", "1")} <= set(everything)
    assert [entry.version for entry in client.get_inference_statistics("scaled").model_stats] == ["1", "2"]
    assert statistics(client, "scaled", "staging").version == "2"


def test_index_lists_every_registered_version_with_its_state(client: triton.InferenceServerClient) -> None:
    index = client.get_model_repository_index().models
    assert [model.name for model in index] == sorted(model.name for model in index)
    assert {"classifier", "lookup", "scaled", "total"} <= {model.name for model in index}
    assert [(model.version, model.state) for model in index if model.name == "scaled"] == [
        ("1", "READY"),
        ("2", "READY"),
        ("3", "UNAVAILABLE"),
    ]
    assert next(model.reason for model in index if model.version == "3").startswith("in no stage")


def test_index_of_what_is_ready_leaves_out_the_rest(served: Daemon) -> None:
    index = served.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=5)
    assert [model.version for model in index.models if model.name == "scaled"] == ["1", "2"]
    assert {model.state for model in index.models} == {"READY"}


def test_index_of_another_repository_is_refused(served: Daemon) -> None:
    with pytest.raises(grpc.RpcError, match="there is one, and it has no name") as caught:
        served.stub.RepositoryIndex(pb.RepositoryIndexRequest(repository_name="elsewhere"), timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("call", ["load_model", "unload_model"])
def test_load_and_unload_are_refused_for_the_registry_decides(client: triton.InferenceServerClient, call: str) -> None:
    for model in ("scaled", "nobody"):
        with pytest.raises(triton.InferenceServerException, match=r"the registry decides .* `tidegate promote") as caught:
            getattr(client, call)(model)
        assert caught.value.status() == "StatusCode.PERMISSION_DENIED"
    assert client.is_model_ready("scaled")


def test_refused_load_says_so_to_machines(served: Daemon) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        served.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="scaled"), timeout=5)
    assert reason(caught.value) == "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("model", "version", "why", "says"),
    [
        ("nobody", "", "MODEL_UNKNOWN", "nobody"),
        ("", "1", "MODEL_UNKNOWN", "served:"),
        ("scaled", "9", "VERSION_UNKNOWN", "version 9"),
        ("scaled", "3", "VERSION_UNKNOWN", "promote it first"),
        ("lookup", "staging", "VERSION_UNKNOWN", "staging"),
    ],
)
def test_unknown_model_version_or_stage_has_no_configuration_and_no_statistics(
    served: Daemon, model: str, version: str, why: str, says: str
) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: served.stub.ModelConfig(pb.ModelConfigRequest(name=model, version=version), timeout=5),
        lambda: served.stub.ModelStatistics(pb.ModelStatisticsRequest(name=model, version=version), timeout=5),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert reason(caught.value) == why
        assert says in str(caught.value.details())


@pytest.mark.parametrize("method", ["ModelConfig", "ModelStatistics", "RepositoryIndex", "ModelMetadata", "ModelReady"])
def test_bytes_that_are_no_request_are_refused(served: Daemon, method: str) -> None:
    with grpc.insecure_channel(served.address) as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}", bytes, bytes)
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff", timeout=5)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
