"""The command as a process, and a registry with two versions of one model."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from registry.location import create_registry
from registry.registry import Registry
from tests.models import register_scaled

MODEL = "tides"
Done: TypeAlias = "subprocess.CompletedProcess[str]"
Command: TypeAlias = Callable[..., Done]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def registry(root: Path) -> Registry:
    """Versions 1 (times 2) and 2 (times 3), neither in a stage."""
    registry = create_registry(str(root))
    for factor in (2.0, 3.0):
        register_scaled(registry, MODEL, factor)
    return registry


@pytest.fixture
def tidegate(root: Path) -> Command:
    """Run `tidegate ARGUMENTS...` on the test's registry, as user ana; never a traceback, at most `lines` on stderr."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}

    def run(*arguments: object, lines: int | None = 1) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "clients.cli.main", *map(str, arguments)],
            env={**clean, "TIDEGATE_REGISTRY": str(root), "LOGNAME": "ana"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert lines is None or done.stderr.count("\n") <= lines
        return done

    return run


@pytest.fixture
def unused_address() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"
