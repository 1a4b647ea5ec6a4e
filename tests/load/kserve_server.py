"""KServe's Python server with the model class that its documentation shows. Run in the peers' environment, never imported.

`python kserve_server.py MODEL.onnx --model_name NAME --grpc_port PORT ...`
"""

import argparse
import os
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server


class OnnxModel(Model):  # type: ignore[misc]
    """Every output of an ONNX model, one thread, as the daemon's engine runs it."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self.ready = True

    def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        del headers, response_headers
        values = self._session.run(None, {tensor.name: tensor.as_numpy() for tensor in payload.inputs})
        return InferResponse(payload.id, self.name, [_output(name, value) for name, value in zip(self._names, values, strict=True)])


def _output(name: str, value: Any) -> InferOutput:
    output = InferOutput(name, list(value.shape), "BYTES" if value.dtype == object else "FP32")
    output.set_data_from_numpy(value, binary_data=True)
    return output


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser])
    parser.add_argument("path")
    arguments, _ = parser.parse_known_args()
    ModelServer().start([OnnxModel(arguments.model_name, arguments.path)])
