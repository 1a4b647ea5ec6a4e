"""Starts Alertmanager on a free port and asks it. No test lives here."""

import contextlib
import json
import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemons import wait_until
from tests.prometheus import ROOT, found, is_ready

CONFIGURATION = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
_STOP_SECONDS = 20.0
TEMPLATES = "/usr/share/prometheus/alertmanager"
"""Where Debian's program reads its templates, without which it does not start."""


@dataclass(frozen=True)
class Alertmanager:
    """A running Alertmanager."""

    address: str

    def tell(self, alerts: Sequence[Mapping[str, str]]) -> None:
        """Say that alerts with these labels fire."""
        body = json.dumps([{"labels": labels} for labels in alerts]).encode()
        request = urllib.request.Request(f"http://{self.address}/api/v2/alerts", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310 -- the same
            pass

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert it knows, with its status."""
        with urllib.request.urlopen(f"http://{self.address}/api/v2/alerts", timeout=10) as response:
            known: list[dict[str, Any]] = json.loads(response.read())
        return known


def configuration(webhook: str) -> str:
    """The configuration that is shipped, told where the control plane is in a test."""
    text, number = re.subn(r"http://control-plane:8000(?=/)", webhook, CONFIGURATION.read_text("utf-8"))
    assert number == 1
    return text


@contextlib.contextmanager
def alertmanager(folder: Path, text: str) -> Iterator[Alertmanager]:
    """An Alertmanager with a configuration; it keeps its data in `folder`."""
    (folder / "alertmanager.yml").write_text(text, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    places = [f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder / 'alertmanager'}"]
    flags = [*places, f"--web.listen-address={address}", "--cluster.listen-address="]
    with (folder / "alertmanager.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen([_program(folder), *flags], stdout=log, stderr=log, cwd=_unpacked(TEMPLATES))
    try:
        wait_until(lambda: is_ready(address), f"Alertmanager is not ready, see {folder / 'alertmanager.log'}")
        yield Alertmanager(address)
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def _unpacked(path: str) -> Path | None:
    """Where a path of Debian's package is, if the package was unpacked and not installed."""
    below = ROOT / ".venv" / "debian" / path.lstrip("/")
    return None if Path(path).exists() else below


def _program(folder: Path) -> str:
    program = found("prometheus-alertmanager")
    if _unpacked(TEMPLATES) is None:
        return program
    # Debian's program has the path of its templates compiled in. A copy of it looks in the folder it is started in.
    copy = folder / "prometheus-alertmanager"
    here = b"./" * (len(TEMPLATES) // 2)
    copy.write_bytes(Path(program).read_bytes().replace(TEMPLATES.encode(), here))
    copy.chmod(0o700)
    return str(copy)
