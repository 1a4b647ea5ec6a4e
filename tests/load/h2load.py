"""Runs h2load and reads what it prints. It knows HTTP alone, where a refusal by gRPC is a success: so bytes of answers are counted too."""

import os
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.load.loads import LoadError, Target
from tests.load.messages import PATH, framed
from tests.load.programs import cores, on_cores

DEBIAN = Path(__file__).parents[2] / ".venv" / "debian"
PILOT_REQUESTS = 1_024
RUN_SECONDS = 120.0


@dataclass(frozen=True)
class Measured:
    """One run: requests, how long they took, and the seconds of processor time that h2load itself took."""

    requests: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def rate(target: Target, seconds: float, on: Sequence[int] | None = None) -> Measured:
    """A run of about `seconds` from the cores `on` (by default that of the load), after a short one that tells how many requests that is.

    Raises:
        LoadError: see `run`.
    """
    pilot = run(target, PILOT_REQUESTS, on)
    return run(target, max(PILOT_REQUESTS, int(pilot.rate * seconds)), on)


def run(target: Target, requests: int, on: Sequence[int] | None = None) -> Measured:
    """So many requests.

    Raises:
        LoadError: if h2load is missing, or one request was not answered, or with other bytes than its message has.
    """
    program, environment = _program()
    with tempfile.NamedTemporaryFile() as body:
        body.write(framed(target.messages[0]))
        body.flush()
        command = [
            program,
            "-n",
            str(requests),
            "-c",
            str(target.connections),
            "-m",
            str(target.in_flight // target.connections),
            "-t",
            "1",
        ]
        command += ["-d", body.name, "-H", "te: trailers", "-H", "content-type: application/grpc", f"http://{target.address}{PATH}"]
        before = _children_seconds()
        with on_cores(*(on or cores()[1:])):
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=RUN_SECONDS)
    return parse(done.stdout + done.stderr, requests, target.answer_bytes[0], _children_seconds() - before)


def parse(printed: str, requests: int, answer_bytes: int, cpu_seconds: float) -> Measured:
    """Read what h2load printed.

    Raises:
        LoadError: if it is not that `requests` were answered, each with a message of `answer_bytes`.
    """
    succeeded, seconds, received = (
        re.search(pattern, printed) for pattern in (r"(\d+) succeeded", r"finished in ([\d.]+)(us|ms|s|m)\b", r"\((\d+)\) data")
    )
    if succeeded is None or seconds is None or received is None:
        raise LoadError(f"h2load did not do its work: {' '.join(printed.split())[-300:]}")
    if int(succeeded[1]) != requests or int(received[1]) != requests * len(framed(bytes(answer_bytes))):
        raise LoadError(
            f"of {requests} requests {succeeded[1]} were answered, with {received[1]} bytes; each should have {answer_bytes} and 5"
        )
    return Measured(requests, float(seconds[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[seconds[2]], cpu_seconds)


def _program() -> tuple[str, dict[str, str]]:
    """Debian's h2load, as installed or as tests/debian-packages.sh has unpacked it, and the environment in which it finds its libraries."""
    if installed := shutil.which("h2load"):
        return installed, dict(os.environ)
    program = DEBIAN / "usr" / "bin" / "h2load"
    if not program.exists():
        raise LoadError("no h2load: install Debian's nghttp2-client, or let `sh tests/debian-packages.sh` unpack it below .venv/debian")
    libraries = ":".join(str(place) for place in (DEBIAN / "usr" / "lib").glob("*-linux-gnu"))
    return str(program), {**os.environ, "LD_LIBRARY_PATH": libraries}


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
