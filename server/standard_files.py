"""Descriptors 0, 1 and 2, which a program may be started without, and whose other end may be gone. What is said is decided elsewhere."""

import contextlib
import os

_STDOUT, _STDERR = 1, 2


def open_missing() -> None:
    """Give those that are closed to /dev/null: what is opened first would take their place, and get what is said there."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(opened)


def announce(line: str) -> None:
    """Write a line to the standard output, or lose it: whoever typed the command may have closed the terminal since."""
    _write(_STDOUT, line)


def log(line: str) -> None:
    """Write a line to the standard error, or lose it: the thread that logs may be the one that serves all."""
    _write(_STDERR, line)


def logs_to_terminal() -> bool:
    """Whether a person reads the log."""
    return os.isatty(_STDERR)


def _write(descriptor: int, line: str) -> None:
    # Past the buffers of `sys`: what stays in them is tried again when the program ends, and then is an error.
    with contextlib.suppress(OSError):
        os.write(descriptor, f"{line}\n".encode(errors="replace"))
