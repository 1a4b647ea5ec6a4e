"""grpc-js, the client of Node and its HTTP/2, as it is: it knows nothing of Tidegate but the .proto file."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contracts.transport.calls import in_flight
from tests.daemons import Daemon, wait_until

ROOT = Path(__file__).resolve().parents[3]
MODULES = ROOT / ".venv" / "grpc-js" / "node_modules"
CLIENT = Path(__file__).parent / "grpc_js" / "client.js"


@pytest.mark.skipif(not (MODULES / "@grpc" / "grpc-js").exists(), reason="no grpc-js: make .venv/grpc-js/.fetched")
def test_grpc_js_works_unchanged(served: Daemon) -> None:
    node = shutil.which("node")
    assert node
    command = [node, str(CLIENT), served.address, str(ROOT / "protos" / "inference.proto")]
    done = subprocess.run(command, env=os.environ | {"NODE_PATH": str(MODULES)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    double = [2, 4, 6]
    code, answers = said.pop("stream")
    assert code == 0
    assert [answers[0], answers[2]] == [double, double]
    assert "NOT_FOUND" in answers[1]
    refusal = said.pop("refused")
    assert (refusal[0], refusal[2]) == (5, True)
    assert "nobody" in refusal[1]
    assert said == {
        "raw": ["7", "1", double],
        "typed": double,
        "large": 2_400_000,
        "packed": double,
        "together": 300,
        "health": [8, 1],
        "cancelled": [1, [double, double]],
        "late": [4, [double]],
    }
    wait_until(lambda: in_flight(served) == 0, "what was given up is in flight for ever", 5)
