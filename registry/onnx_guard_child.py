"""The process in which `onnx_guard` has ONNX files scanned. Limits itself before it reads a byte, and lives as long as its input.

Its input is one file after another, each in pieces that begin with their length (`HEADER` bytes, big-endian), up to a piece of length 0.
Its output is one line of JSON for each file, as soon as the verdict is known: `{"refused": null}`, or the reason instead of null. What is
left of a refused file is read and thrown away. Imports the standard library and the scanner, nothing else.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from io import BufferedReader, FileIO

from registry import onnx_scan

HEADER = 4
"""How many bytes the length of a piece takes."""
PIECE = 1 << 16
"""How long a piece should be: what a pipe holds."""
OUT_OF_MEMORY = 3
"""The exit code of a child that was not given the memory it needs."""
_STANDARD_STREAMS = 3


def main(memory_bytes: int, nesting: int) -> None:
    """Give verdicts until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business; this process ends when the parent does
    _limit(memory_bytes)
    try:
        source = BufferedReader(FileIO(0, closefd=False), HEADER + PIECE)
        while True:
            _answer(source, nesting)
    except (EOFError, BrokenPipeError):
        return
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _limit(memory_bytes: int) -> None:
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: _STANDARD_STREAMS}
    if sys.platform == "linux":  # elsewhere a process may not have less address space than it began with, which can be all there is
        limits[resource.RLIMIT_AS] = memory_bytes
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))


def _answer(source: "BufferedReader[FileIO]", nesting: int) -> None:
    pieces = _pieces(source)
    verdict = {"refused": onnx_scan.refusal(pieces, nesting)}
    os.write(sys.stdout.fileno(), json.dumps(verdict).encode() + b"\n")
    for _ in pieces:
        pass


def _pieces(source: "BufferedReader[FileIO]") -> Iterator[bytes]:
    while left := int.from_bytes(_some(source.read(HEADER))):
        while left:
            part = _some(source.read1(left))
            left -= len(part)
            yield part


def _some(part: bytes) -> bytes:
    if not part:
        raise EOFError
    return part
