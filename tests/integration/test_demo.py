"""`make demo` tells its whole story, ends what it started, and says which port is taken."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from registry.location import open_folder
from registry.verify import verify

ROOT = Path(__file__).parents[2]
FREE = {f"TIDEGATE_{name}_ADDRESS": "127.0.0.1:0" for name in ("HTTP", "GRPC", "METRICS")}


def demo(folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "clients.demo"],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **FREE, **environment},
    )


@pytest.mark.timeout(180)
def test_demo_tells_its_story_and_leaves_nothing_running(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    run = demo(tmp_path, {"HOME": str(home)})
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "0 failed, 0 differ from scikit-learn" in run.stdout
    for line in ("version 1", "version 2", "approved by version 1", "promotion of version 2", "rollback to version 1", "drift"):
        assert re.search(rf"^ +{line} +\S", run.stdout, re.MULTILINE), line
    pids = re.search(r"ran as processes (\d+) (\d+)", run.stdout)
    assert pids
    assert not any(Path("/proc", pid).exists() for pid in pids.groups())
    assert not list(home.iterdir())
    assert verify(open_folder(tmp_path / ".tidegate/demo/registry")) == ()


def test_taken_port_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        run = demo(tmp_path, {"TIDEGATE_GRPC_ADDRESS": address})
    assert run.returncode == 1
    assert address in run.stderr
    assert "TIDEGATE_GRPC_ADDRESS=" in run.stderr
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / ".tidegate").exists()
