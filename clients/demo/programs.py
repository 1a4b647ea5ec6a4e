"""Starts the daemon and the control plane as processes, waits until they say that they listen, and ends them. Knows nothing of models."""

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
STOP_SECONDS = 20.0


class ProgramError(Exception):
    """A program that did not start; its text is what the program said."""


@dataclass(frozen=True)
class Program:
    """A running program, the line it announced itself with, and the file its log goes to."""

    process: "subprocess.Popen[str]"
    announcement: str
    log: Path

    @property
    def addresses(self) -> Sequence[str]:
        """Every HOST:PORT it announced."""
        return re.findall(r"(?:\[[0-9a-f:]+\]|[\w.-]+):\d+", self.announcement)

    def stop(self) -> None:
        """Ask it to end, and insist if it does not."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(module: str, flags: Mapping[str, str], log: Path) -> Iterator[Program]:
    """`python -m module` with flags, from its announcement to the end of the block."""
    program = start(module, [part for name, value in flags.items() for part in (f"--{name}", value)], log)
    try:
        yield program
    finally:
        program.stop()


def start(module: str, arguments: Sequence[str], log: Path) -> Program:
    """Start `python -m module`; returns when it has said where it listens.

    Raises:
        ProgramError: with its own words, if it ends or stays silent instead.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,  # Ctrl-C is for the demo, which then ends its programs in order
        )
    line = _first_line(process)
    if not line:
        process.kill()
        process.wait()
        raise ProgramError(log.read_text(encoding="utf-8").strip() or f"{module} said nothing for {START_SECONDS:.0f} s")
    return Program(process, line, log)


def _first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None  # noqa: S101 -- it is a pipe, see above
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 0.1)[0]:
            return process.stdout.readline().strip()
    return ""
