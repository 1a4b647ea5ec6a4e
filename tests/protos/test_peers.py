"""Our generated modules live beside other clients of the protocol in one process. Each import runs in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv" / "peers" / "bin" / "python"

OURS = "from tidegate_protos import inference_pb2, inference_pb2_grpc, monitoring_pb2, monitoring_pb2_grpc"
TRITON = "from tritonclient.grpc import service_pb2 as theirs"
KSERVE = "from kserve.protocol.grpc import grpc_predict_v2_pb2 as theirs; import kserve"
ROUND_TRIP = """
request = inference_pb2.ModelInferRequest(model_name="m", id="1", raw_input_contents=[b"abc"])
request.inputs.add(name="numeric", datatype="FP32", shape=[1, 2])
request.parameters["tidegate_routing_key"].string_param = "k"
raw = request.SerializeToString(deterministic=True)
echo = theirs.ModelInferRequest.FromString(raw)
assert type(echo) is not type(request)
assert echo.SerializeToString(deterministic=True) == raw
print("ok")
"""


def _run(python: str, *lines: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "protos" / "src")}
    done = subprocess.run([python, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("order", [(OURS, TRITON), (TRITON, OURS)], ids=["ours first", "theirs first"])
def test_imports_beside_tritonclient(order: tuple[str, str]) -> None:
    assert _run(sys.executable, *order, ROUND_TRIP) == "ok"


@pytest.mark.peers
@pytest.mark.skipif(not PEERS.exists(), reason="no peers' environment: make .venv/peers/.installed")
@pytest.mark.parametrize("peer", [TRITON, KSERVE], ids=["tritonclient", "kserve"])
@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "theirs first"])
def test_imports_beside_the_peers_of_the_locked_environment(peer: str, *, ours_first: bool) -> None:
    order = (OURS, peer) if ours_first else (peer, OURS)
    assert _run(str(PEERS), *order, ROUND_TRIP).splitlines()[-1] == "ok"
