"""What the programs write to a terminal: where something breaks, the lines of code, and never the values in them."""

import os
import subprocess
import sys
import threading

import pytest

BREAKS = """
import structlog
from {program} import _configure_log
_configure_log({arguments})

def answer(token, row):
    raise RuntimeError("broken")

try:
    answer("tidegate_" + "secret", ["a " + "person"])
except RuntimeError:
    structlog.get_logger("test").exception("it broke")
"""


def said_on_a_terminal(code: str) -> str:
    terminal, end = os.openpty()
    told: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(terminal, 65_536):
                told.append(data)
        except OSError:
            return  # all that wrote to it have ended

    reader = threading.Thread(target=read)
    reader.start()
    subprocess.run([sys.executable, "-c", code], stderr=end, timeout=30, check=True, env={**os.environ, "COLUMNS": "200"})
    os.close(end)
    reader.join(10)
    os.close(terminal)
    return b"".join(told).decode()


@pytest.mark.parametrize(("program", "arguments"), [("server.__main__", "None"), ("control_plane.__main__", "")])
def test_a_traceback_on_a_terminal_shows_no_values(program: str, arguments: str) -> None:
    said = said_on_a_terminal(BREAKS.format(program=program, arguments=arguments))
    assert "it broke" in said
    assert "RuntimeError: broken" in said
    assert "tidegate_secret" not in said
    assert "a person" not in said
