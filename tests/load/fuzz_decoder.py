"""Coverage-guided fuzzing of what reads requests: `python -m tests.load.fuzz_decoder [SECONDS]`, with `requirements/fuzz.txt` installed.

Whatever bytes come, decoding and checking them gives a request that fits or an `InputMismatchError`, in a second. libFuzzer ends the
program with its own exit code at the first input that does anything else, and leaves that input in the folder it was started from.
"""

import itertools
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["server.grpcio_transport", "tidegate_protos"]):
    from server.errors import InputMismatchError
    from server.grpcio_transport import tensors
    from server.grpcio_transport.tensors import Form

import numpy as np

from registry.bundle import Signature, TensorSpec
from tests.contracts.transport.calls import raw_request
from tidegate_protos import inference_pb2 as pb

SECONDS = 60
_SIGNATURE = Signature(
    (TensorSpec("numeric", "FP32", (-1, 3)), TensorSpec("categorical", "BYTES", (-1, 1))), (TensorSpec("y", "FP32", (-1,)),)
)
_FORM = Form("m", 1, _SIGNATURE, batchable=True)


def fuzz_one(data: bytes) -> None:
    """Decode, check, and answer with its own rows."""
    try:
        request = tensors.decode(data)
        rows = _FORM.rows(request)
    except InputMismatchError:
        return
    answer = pb.ModelInferResponse.FromString(_FORM.encode(request, {"y": np.zeros(rows, np.float32)}))
    if answer.id != request.id or list(answer.outputs[0].shape) != [rows]:
        raise AssertionError("the answer is not that of the request")


def corpus(folder: Path) -> None:
    """Valid requests, raw and typed, to begin with."""
    numbers = itertools.count()
    inputs = {"numeric": np.ones((2, 3), np.float32), "categorical": np.array([["red"], [""]], object)}
    typed = pb.ModelInferRequest(model_name="m", id="id")
    typed.inputs.add(name="numeric", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([1, 2, 3])
    typed.inputs.add(name="categorical", datatype="BYTES", shape=[1, 1]).contents.bytes_contents.append(b"red")
    typed.parameters["priority"].int64_param = 1
    typed.outputs.add(name="y")
    for request in (raw_request("m", inputs), raw_request("m", inputs, "production", "id"), typed):
        (folder / str(next(numbers))).write_bytes(request.SerializeToString())


def main() -> None:
    """Run for the seconds given."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as folder:
        corpus(Path(folder))
        atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", "-timeout=1", "-rss_limit_mb=2048", "-max_len=4096", folder], fuzz_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
