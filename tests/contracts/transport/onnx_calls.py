"""Any ONNX model, registered as it is and asked as a stranger would: raw by Triton's client, typed field by field. No test lives here."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import tritonclient.grpc as triton
from numpy.typing import NDArray

from registry import bundle
from registry.bundle import Signature
from registry.registry import Registry
from server.engine import DTYPES
from tests.daemons import Daemon
from tidegate_protos import inference_pb2 as pb

Tensors: TypeAlias = Mapping[str, NDArray[Any]]

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where a typed request and answer have their elements; FP16 travels raw."""


def put_in_production(registry: Registry, name: str, model: bytes, signature: Signature) -> None:
    """Register `model` and promote it; raises RegistryError if the registry does not let it in."""
    files = {bundle.MODEL: model, bundle.SIGNATURE: signature.encode()}
    registry.register(name, files, {}, actor="test", reason="a case")
    registry.promote(name, 1, to="production", actor="test", reason="a case")


def has_typed_form(signature: Signature) -> bool:
    """Whether every tensor can be sent and answered typed."""
    return all(spec.datatype in _CONTENTS for spec in (*signature.inputs, *signature.outputs))


def ask_raw(client: triton.InferenceServerClient, model: str, signature: Signature, inputs: Tensors) -> dict[str, NDArray[Any]]:
    """The outputs for `inputs`; raises InferenceServerException."""
    tensors = []
    for spec in signature.inputs:
        tensor = triton.InferInput(spec.name, list(inputs[spec.name].shape), spec.datatype)
        tensor.set_data_from_numpy(inputs[spec.name])
        tensors.append(tensor)
    result = client.infer(model, tensors)
    return {spec.name: result.as_numpy(spec.name) for spec in signature.outputs}


def ask_typed(running: Daemon, model: str, signature: Signature, inputs: Tensors) -> dict[str, NDArray[Any]]:
    """The outputs for `inputs`; raises RpcError."""
    request = pb.ModelInferRequest(model_name=model)
    for spec in signature.inputs:
        values = inputs[spec.name]
        tensor = request.inputs.add(name=spec.name, datatype=spec.datatype, shape=values.shape)
        getattr(tensor.contents, _CONTENTS[spec.datatype]).extend(values.ravel().tolist())
    return {output.name: _array(output) for output in running.stub.ModelInfer(request, timeout=20).outputs}


def _array(output: pb.ModelInferResponse.InferOutputTensor) -> NDArray[Any]:
    values = list(getattr(output.contents, _CONTENTS[output.datatype]))
    array = np.empty(len(values), DTYPES[output.datatype])
    array[:] = values
    return array.reshape(tuple(output.shape))
