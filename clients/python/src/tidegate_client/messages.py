"""Protobuf messages to and from values: every request is built here, every answer read here. No channel, no clock."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Generic, SupportsFloat, TypeAlias, TypeVar

import grpc
import numpy.typing as npt
from google.protobuf.message import Message

from tidegate_client import tensors
from tidegate_client.errors import AnswerError, InputError
from tidegate_client.values import (
    Array,
    Columns,
    Drift,
    FeatureDrift,
    Label,
    ModelMetadata,
    Prediction,
    Receipt,
    RefusedLabel,
    ServerMetadata,
    TensorMetadata,
)
from tidegate_protos import inference_pb2 as oip
from tidegate_protos import monitoring_pb2 as monitoring

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)
Parameter: TypeAlias = bool | int | str | float

_UINT64_BITS = 64
_CONTENTS = MappingProxyType(
    {
        "BOOL": "bool_contents",
        **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
        **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
        "INT64": "int64_contents",
        "UINT64": "uint64_contents",
        "FP32": "fp32_contents",
        "FP64": "fp64_contents",
        "BYTES": "bytes_contents",
    }
)
"""The field of InferTensorContents that belongs to each datatype; FP16 has none."""


@dataclass(frozen=True)
class Method(Generic[Q, A]):
    """One remote call."""

    path: str
    request: type[Q]
    answer: type[A]

    def on(self, channel: grpc.Channel) -> "grpc.UnaryUnaryMultiCallable[Q, A]":
        """The call on one channel; on one of grpc.aio it is awaited."""
        encode, decode = self.request.SerializeToString, self.answer.FromString
        return channel.unary_unary(self.path, request_serializer=encode, response_deserializer=decode)


_OIP = "/inference.GRPCInferenceService/"
SERVER_LIVE = Method(_OIP + "ServerLive", oip.ServerLiveRequest, oip.ServerLiveResponse)
SERVER_READY = Method(_OIP + "ServerReady", oip.ServerReadyRequest, oip.ServerReadyResponse)
MODEL_READY = Method(_OIP + "ModelReady", oip.ModelReadyRequest, oip.ModelReadyResponse)
SERVER_METADATA = Method(_OIP + "ServerMetadata", oip.ServerMetadataRequest, oip.ServerMetadataResponse)
MODEL_METADATA = Method(_OIP + "ModelMetadata", oip.ModelMetadataRequest, oip.ModelMetadataResponse)
MODEL_INFER = Method(_OIP + "ModelInfer", oip.ModelInferRequest, oip.ModelInferResponse)
GET_DRIFT = Method("/tidegate.v1.MonitoringService/GetDrift", monitoring.GetDriftRequest, monitoring.GetDriftResponse)
RECORD_FEEDBACK = Method(
    "/tidegate.v1.MonitoringService/RecordFeedback", monitoring.RecordFeedbackRequest, monitoring.RecordFeedbackResponse
)


@dataclass(frozen=True)
class Ask:
    """What a caller asks of a model, beside the data."""

    model: str
    version: str
    id: str
    parameters: Mapping[str, Parameter]
    outputs: Sequence[str]


def infer_request(ask: Ask, inputs: Mapping[str, npt.ArrayLike], metadata: ModelMetadata) -> oip.ModelInferRequest:
    """The request that sends `inputs`, cast to the datatypes the model has, as raw contents.

    Raises:
        InputError: for an input the model has not got, or a value that does not fit its datatype.
    """
    request = oip.ModelInferRequest(model_name=ask.model, model_version=ask.version, id=ask.id)
    for name, value in ask.parameters.items():
        request.parameters[name].CopyFrom(_parameter(name, value))
    request.outputs.extend(oip.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ask.outputs)
    datatypes = {tensor.name: tensor.datatype for tensor in metadata.inputs}
    for name, values in inputs.items():
        if name not in datatypes:
            raise InputError(f"model {ask.model!r} has no input {name!r}; it has: {', '.join(datatypes) or 'none'}")
        array = tensors.cast(values, datatypes[name], name)
        request.inputs.add(name=name, datatype=datatypes[name], shape=array.shape)
        request.raw_input_contents.append(tensors.encode(array, datatypes[name]))
    return request


def prediction(response: oip.ModelInferResponse, classes: tuple[str, ...] = ()) -> Prediction:
    """The value an answer holds.

    Raises:
        AnswerError: if a tensor is not what its datatype and shape say.
    """
    raw = response.raw_output_contents
    if raw and len(raw) != len(response.outputs):
        raise AnswerError(f"the answer has {len(response.outputs)} outputs but {len(raw)} raw contents")
    outputs = {
        output.name: tensors.decode(raw[i], output.datatype, tuple(output.shape)) if raw else _typed(output)
        for i, output in enumerate(response.outputs)
    }
    return Prediction(response.model_name, response.model_version, response.id, MappingProxyType(outputs), classes)


def model_metadata(response: oip.ModelMetadataResponse) -> ModelMetadata:
    """The value an answer holds.

    Raises:
        AnswerError: if a property of Tidegate is not what it should be.
    """
    properties = dict(response.properties)
    return ModelMetadata(
        name=response.name,
        versions=tuple(response.versions),
        platform=response.platform,
        inputs=tuple(_tensor(tensor) for tensor in response.inputs),
        outputs=tuple(_tensor(tensor) for tensor in response.outputs),
        columns=_columns(properties),
        classes=_names(properties, "tidegate.classes"),
        positive=properties.get("tidegate.positive"),
        properties=MappingProxyType(properties),
    )


def server_metadata(response: oip.ServerMetadataResponse) -> ServerMetadata:
    """The value an answer holds."""
    return ServerMetadata(response.name, response.version, tuple(response.extensions))


def drift(response: monitoring.GetDriftResponse) -> Drift:
    """The value an answer holds."""
    return Drift(response.model, response.version, response.rows, tuple(_feature(feature) for feature in response.features))


def feedback_request(model: str, labels: Iterable[Label]) -> monitoring.RecordFeedbackRequest:
    """The request that sends `labels`.

    Raises:
        InputError: for a label that is neither text nor a number, a row that is no 32-bit number, or a time without a zone; says which.
    """
    request = monitoring.RecordFeedbackRequest(model=model)
    for index, label in enumerate(labels):
        try:
            request.labels.append(_label(label))
        except (AttributeError, OverflowError, TypeError, ValueError) as error:
            raise InputError(f"label {index}: {error}") from error
    return request


def receipt(response: monitoring.RecordFeedbackResponse) -> Receipt:
    """The value an answer holds."""
    refusals = tuple(RefusedLabel(refusal.index, refusal.reason) for refusal in response.refusals)
    return Receipt(response.recorded, response.duplicate, response.refused, refusals)


def _label(label: Label) -> monitoring.Label:
    if not isinstance(label.prediction_id, str):
        raise TypeError(f"a prediction id is text, not {label.prediction_id!r}")  # protobuf's own words would not say so
    message = monitoring.Label(prediction_id=label.prediction_id, row=label.row, observed=_seconds(label.observed))
    match label.label:
        case str(name):
            message.class_name = name
        case SupportsFloat() as value if not isinstance(value, bool):
            message.value = float(value)
        case other:
            raise TypeError(f"a label is the name of a class or a number, not {other!r}")
    return message


def _seconds(observed: datetime | float | None) -> float:
    if not isinstance(observed, datetime):
        return observed or 0.0
    if observed.tzinfo is None:
        raise ValueError(f"observed {observed} has no time zone")
    return observed.timestamp()


def _feature(feature: monitoring.FeatureDrift) -> FeatureDrift:
    return FeatureDrift(
        name=feature.name,
        kind=feature.kind,
        bins=tuple(feature.bins),
        observed=tuple(feature.observed),
        reference=tuple(feature.reference),
        psi=feature.psi,
        ks=feature.ks if feature.HasField("ks") else None,
        p_value=feature.p_value,
        drifted=feature.drifted,
    )


def _parameter(name: str, value: Parameter) -> oip.InferParameter:
    match value:
        case bool():
            return oip.InferParameter(bool_param=value)
        case int() if -(1 << (_UINT64_BITS - 1)) <= value < 1 << (_UINT64_BITS - 1):
            return oip.InferParameter(int64_param=value)
        case int() if 0 <= value < 1 << _UINT64_BITS:
            return oip.InferParameter(uint64_param=value)
        case float():
            return oip.InferParameter(double_param=value)
        case str():
            return oip.InferParameter(string_param=value)
    raise InputError(f"parameter {name!r} must be a bool, a 64-bit int, a float or text, not {value!r}")


def _typed(output: oip.ModelInferResponse.InferOutputTensor) -> Array:
    field = _CONTENTS.get(output.datatype)
    if field is None:
        raise AnswerError(f"output {output.name!r} has datatype {output.datatype!r}, which cannot be read from typed contents")
    return tensors.decode_list(list(getattr(output.contents, field)), output.datatype, tuple(output.shape))


def _tensor(tensor: oip.ModelMetadataResponse.TensorMetadata) -> TensorMetadata:
    return TensorMetadata(tensor.name, tensor.datatype, tuple(tensor.shape))


def _columns(properties: Mapping[str, str]) -> Columns | None:
    columns = Columns(_names(properties, "tidegate.columns.numeric"), _names(properties, "tidegate.columns.categorical"))
    return columns if columns.names else None


def _names(properties: Mapping[str, str], key: str) -> tuple[str, ...]:
    try:
        names = json.loads(properties.get(key, "[]"))
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AnswerError(f"property {key} of the model is not a JSON list of names")
    return tuple(names)
