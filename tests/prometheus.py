"""Finds Prometheus and promtool, starts Prometheus on a free port, and asks it. No test lives here."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.daemons import wait_until

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "prometheus"
"""The configuration, rules and tests of rules that are shipped."""
RULES = tuple(sorted((FOLDER / "rules").glob("*.yml")))
_UNPACKED = ROOT / ".venv" / "debian" / "usr" / "bin"
_STOP_SECONDS = 20.0


def found(program: str) -> str:
    """The path of a program of Debian's prometheus, unpacked or installed; skips the test where there is none."""
    path = shutil.which(program, path=f"{_UNPACKED}{os.pathsep}{os.environ['PATH']}")
    if path is None:
        pytest.skip(f"{program} is not installed")
    return path


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str, label: str) -> dict[str, float]:
        """The present values of an expression, by one of its labels."""
        found = self.get("query", {"query": expression})["result"]
        values = {sample["metric"].get(label, ""): float(sample["value"][1]) for sample in found}
        assert len(values) == len(found), f"{label} does not tell the series of {expression} apart"
        return values

    def names(self) -> set[str]:
        """The name of every series there is."""
        return set(self.get("label/__name__/values", {}))

    def get(self, path: str, parameters: dict[str, str]) -> Any:
        """The data of an answer of the HTTP API."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 -- a loopback URL of ours
            return json.loads(response.read())["data"]


@contextlib.contextmanager
def prometheus(folder: Path, configuration: str) -> Iterator[Prometheus]:
    """A Prometheus with a configuration, whose paths begin at `folder`; it keeps its data there."""
    (folder / "prometheus.yml").write_text(configuration, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
    with (folder / "prometheus.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([found("prometheus"), *flags], stdout=log, stderr=log)
    try:
        wait_until(lambda: is_ready(address), f"Prometheus is not ready, see {folder / 'prometheus.log'}")
        yield Prometheus(f"http://{address}")
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def write_rules(folder: Path, hour: float) -> None:
    """The rules that are shipped, evaluated every second, with `hour` seconds for an hour wherever one stands in brackets."""

    def shortened(brackets: re.Match[str]) -> str:
        return re.sub(r"(\d+)h", lambda hours: f"{int(hours[1]) * hour:.0f}s", brackets[0])

    folder.mkdir()
    for path in RULES:
        text = re.sub(r"\[[^]]*\]", shortened, path.read_text(encoding="utf-8"))
        (folder / path.name).write_text(re.sub(r"interval: \w+", "interval: 1s", text), encoding="utf-8")


def is_ready(address: str) -> bool:
    """Whether a server of Prometheus' family says that it is."""
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
