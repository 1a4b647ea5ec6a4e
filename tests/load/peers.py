"""Other projects' servers for the same model and requests, each in an environment of its own: MLServer and KServe's Python server.

Each runs as its documentation has it for one process, on one core, by gRPC, without lines of log for each request; where a setting may make
it faster it is tried both ways, and the faster one counts.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import joblib

from tests.load import programs
from tests.load.lab import LOGISTIC
from tests.load.models import Trained
from tests.load.programs import Served

ENVIRONMENTS = Path(__file__).parents[2] / ".venv"


@dataclass(frozen=True)
class Peer:
    """A server to compare with.

    `program` must exist, and is run with what `commands` gives for each way to run it.
    """

    name: str
    program: Path
    commands: Mapping[str, tuple[str, ...]]
    ports: Mapping[str, int]

    @property
    def missing(self) -> str:
        """Why it cannot be started; empty if it can."""
        return "" if self.program.exists() else f"not installed: make .venv/{self.program.parts[-3]}/.installed"

    @contextmanager
    def start(self, way: str, room: Path) -> Iterator[Served]:
        """The server, ready."""
        log = room / f"{self.name}-{way}.log"
        with programs.foreign([str(self.program), *self.commands[way]], self.ports[way], LOGISTIC, log) as served:
            yield served


def mlserver(trained: Trained, room: Path) -> Peer:
    """MLServer with its scikit-learn runtime, in its own process, adaptive batching off and on."""
    batching = {"batching off": (0, 0.0), "batching on": (128, 0.001)}
    commands, ports = {}, {}
    for way, (size, seconds) in batching.items():
        folder = room / f"mlserver-{size}"
        folder.mkdir(exist_ok=True)
        http, grpc, metrics = (programs.free_port() for _ in range(3))
        server = {"debug": False, "parallel_workers": 0, "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        model = {
            "name": LOGISTIC,
            "implementation": "mlserver_sklearn.SKLearnModel",
            "max_batch_size": size,
            "max_batch_time": seconds,
            "parameters": {"uri": "./model.joblib", "version": "1"},
        }
        (folder / "settings.json").write_text(json.dumps(server), "utf-8")
        (folder / "model-settings.json").write_text(json.dumps(model), "utf-8")
        joblib.dump(trained.estimator, folder / "model.joblib")
        commands[way], ports[way] = ("start", str(folder)), grpc
    return Peer("MLServer", ENVIRONMENTS / "mlserver" / "bin" / "mlserver", commands, ports)


def kserve(trained: Trained, room: Path) -> Peer:
    """KServe's Python server with a model class that runs ONNX Runtime, one worker."""
    model = room / "kserve.onnx"
    model.write_bytes(trained.raw)
    http, grpc = programs.free_port(), programs.free_port()
    quiet = ("--configure_logging", "false", "--enable_latency_logging", "false")
    script = Path(__file__).with_name("kserve_server.py")
    command = (
        "-P",
        str(script),
        str(model),
        "--model_name",
        LOGISTIC,
        "--http_port",
        str(http),
        "--grpc_port",
        str(grpc),
        "--workers",
        "1",
        *quiet,
    )
    return Peer("KServe", ENVIRONMENTS / "peers" / "bin" / "python", {"one worker": command}, {"one worker": grpc})
