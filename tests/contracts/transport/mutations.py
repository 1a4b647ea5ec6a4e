"""Valid requests, and what becomes of them when bytes are changed. No test lives here."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from tests.contracts.transport.calls import raw_request
from tidegate_protos import inference_pb2 as pb

ROW = np.array([[1, 2, 3]], np.float32)


def typed_request() -> pb.ModelInferRequest:
    """One with typed contents, an output and parameters."""
    request = pb.ModelInferRequest(model_name="classifier", id="id", outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="echo")])
    request.inputs.add(name="numeric", datatype="FP32", shape=[2, 3]).contents.fp32_contents.extend(range(6))
    request.inputs.add(name="categorical", datatype="BYTES", shape=[2, 1]).contents.bytes_contents.extend([b"red", b"green"])
    request.parameters["priority"].int64_param = 1
    request.parameters["tidegate_routing_key"].string_param = "customer"
    return request


VALID = [
    raw_request("scaled", {"numeric": ROW}).SerializeToString(),
    raw_request("classifier", {"numeric": ROW, "categorical": np.array([["red"]], object)}, "1", "id").SerializeToString(),
    raw_request("total", {"numbers": np.ones(4, np.float32)}).SerializeToString(),
    typed_request().SerializeToString(),
]


@st.composite
def mutations(draw: st.DrawFn, valid: Sequence[bytes] = VALID) -> bytes:
    """A valid request with a few bytes changed, cut out, put in or repeated."""
    data = bytearray(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 8))
        match draw(st.sampled_from(["change", "cut", "put", "repeat"])):
            case "change":
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del data[place : place + length]
            case "put":
                data[place:place] = draw(st.binary(max_size=8))
            case _:
                data[place:place] = data[place : place + length] * draw(st.integers(1, 50))
    return bytes(data)
