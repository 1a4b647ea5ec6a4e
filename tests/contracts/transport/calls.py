"""Requests as a stranger would write them, field by field. No test lives here."""

from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from numpy.typing import NDArray

from tests.daemons import Daemon
from tests.exposition import scrape, value
from tidegate_protos import inference_pb2 as pb

DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "object": "BYTES"}


def raw_request(model: str, inputs: Mapping[str, NDArray[np.generic]], version: str = "", prediction_id: str = "") -> pb.ModelInferRequest:
    """A ModelInferRequest with raw contents."""
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=prediction_id)
    for name, tensor in inputs.items():
        request.inputs.add(name=name, datatype=DATATYPES[tensor.dtype.name], shape=tensor.shape)
        request.raw_input_contents.append(raw_bytes(tensor))
    return request


def raw_bytes(tensor: NDArray[np.generic]) -> bytes:
    """A tensor's raw contents."""
    if tensor.dtype != object:
        return tensor.tobytes()
    texts = [str(value).encode() for value in tensor.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def raw_floats(answer: pb.ModelInferResponse, place: int = 0) -> NDArray[np.float32]:
    """A raw FP32 output."""
    return np.frombuffer(answer.raw_output_contents[place], np.float32).reshape(tuple(answer.outputs[place].shape))


def reason(error: grpc.RpcError) -> str:
    """The ErrorInfo reason of a refusal."""
    return str(_detail(error, error_details_pb2.ErrorInfo).reason)


def retry_seconds(error: grpc.RpcError) -> float:
    """The RetryInfo delay of a refusal."""
    return float(_detail(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds())


def in_flight(running: Daemon) -> float:
    """Requests that a daemon has admitted and not answered yet."""
    return value(scrape(running.metrics_url), "tidegate_in_flight_requests")


def _detail(error: grpc.RpcError, kind: Any) -> Any:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None, error
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            detail = kind()
            packed.Unpack(detail)
            return detail
    raise AssertionError(f"no {kind.__name__} in {status}")
