"""Clients of others, as they are: KServe's SDK in the peers' environment, which knows nothing of Tidegate, and Triton's with asyncio."""

import asyncio
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc.aio as triton

from tests.daemons import Daemon

PEERS = Path(__file__).resolve().parents[3] / ".venv" / "peers" / "bin" / "python"
ROWS = np.array([[1, 2, 3], [4, 5, 6]], np.float32)

KSERVE = """
import asyncio, json, sys
import grpc, numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb, grpc_predict_v2_pb2_grpc as pb_grpc
address = sys.argv[1]
rows = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
async def main():
    told = {}
    async with InferenceGRPCClient(address) as client:
        told["live"] = await client.is_server_live()
        told["ready"] = [await client.is_server_ready(), await client.is_model_ready("scaled")]
        for raw in (True, False):
            tensor = InferInput("numeric", [2, 3], "FP32")
            tensor.set_data_from_numpy(rows, binary_data=raw)
            request = InferRequest("scaled", [tensor], request_id="7", parameters={"priority": 1})
            answer = await client.infer(request)
            told[str(raw)] = [answer.id, answer.model_version, answer.outputs[0].as_numpy().tolist()]
    with grpc.insecure_channel(address) as channel:
        try:
            pb_grpc.GRPCInferenceServiceStub(channel).RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="scaled"), timeout=5)
        except grpc.RpcError as error:
            told["load"] = error.code().name
    print(json.dumps(told))
asyncio.run(main())
"""


@pytest.mark.peers
@pytest.mark.skipif(not PEERS.exists(), reason="no peers' environment: make .venv/peers/.installed")
def test_kserves_sdk_works_unchanged(served: Daemon) -> None:
    done = subprocess.run([str(PEERS), "-c", KSERVE, served.address], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {
        "live": True,
        "ready": [True, True],
        "True": ["7", "1", (ROWS * 2).tolist()],
        "False": ["7", "1", (ROWS * 2).tolist()],
        "load": "PERMISSION_DENIED",
    }


def test_tritonclient_with_asyncio_works_unchanged(served: Daemon) -> None:
    async def ask() -> None:
        async with triton.InferenceServerClient(served.address) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_config("scaled")).config.max_batch_size == 1024
            assert "scaled" in {model.name for model in (await client.get_model_repository_index()).models}
            tensor = triton.InferInput("numeric", [2, 3], "FP32")
            tensor.set_data_from_numpy(ROWS)
            answers = await asyncio.gather(*(client.infer("scaled", [tensor], priority=1, timeout=5_000_000) for _ in range(50)))
            assert all((answer.as_numpy("scaled") == ROWS * 2).all() for answer in answers)

    asyncio.run(ask())
