"""The guard at the registry's door: an ONNX file is let in or refused with the reason, whatever its bytes are.

A file is scanned by `onnx_scan` in a child process (`onnx_guard_child`) that may hold little memory and open nothing. Started at the first
check and used again, because a start takes longer than a small registration does. Here stand the limits, the child's life, and what becomes
of a check whose child dies; what makes a file acceptable stands in `onnx_scan`.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, NoReturn, Self

from registry import onnx_scan
from registry.errors import ModelRefusedError
from registry.onnx_guard_child import HEADER, OUT_OF_MEMORY, PIECE

_START = "import sys; sys.path.append(sys.argv[1]); from registry.onnx_guard_child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
_IDLE = 4
_DYING_SECONDS = 5


@dataclass(frozen=True)
class Limits:
    """What a check may take. The time is what the caller waits for the child: what its own chunks take to come is not counted."""

    model_bytes: int = (1 << 31) - 1
    """Where protobuf ends, and with it what ONNX Runtime loads from bytes."""
    nesting: int = onnx_scan.NESTING
    seconds: float = 60
    memory_bytes: int = 512 << 20
    """Of address space, which is what the system can limit; a scan needs a few MiB beside the 20 of Python."""


DEFAULT = Limits()


class Guard:
    """Checks ONNX files, from any number of threads at once: each check has a child of its own while it lasts.

    Children end when the guard is closed or collected, and when this process ends, however it does.
    """

    def __init__(self, limits: Limits = DEFAULT) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._closed = False
        weakref.finalize(self, _end_all, self._idle)

    def check(self, chunks: Iterable[bytes]) -> None:
        """Take note of the file made of `chunks`, all of which are read if it is let in.

        What `chunks` raises is raised.

        Raises:
            ModelRefusedError: if it is not let in, or if the child could not come to a verdict within its limits.
        """
        child = self._take()
        try:
            refused = child.verdict(chunks)
        except BaseException:
            child.end()
            raise
        self._give_back(child)
        if refused is not None:
            raise ModelRefusedError(f"model.onnx {refused}")

    def close(self) -> None:
        """End the children that are idle, and each other one when its check is done."""
        with self._lock:
            self._closed = True
            idle, self._idle[:] = self._idle[:], []
        _end_all(idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _take(self) -> "_Child":
        while True:
            with self._lock:
                child = self._idle.pop() if self._idle else None
            if child is None:
                return _Child(self.limits)
            if child.usable():
                return child
            child.end()

    def _give_back(self, child: "_Child") -> None:
        with self._lock:
            kept = not self._closed and len(self._idle) < _IDLE
            if kept:
                self._idle.append(child)
        if not kept:
            child.end()


class _Child:
    """One child process, for one check at a time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = 0.0
        self._process = _start(limits)
        self._input, self._output = _pipe(self._process.stdin), _pipe(self._process.stdout)
        os.set_blocking(self._input, False)  # a child that hangs must not hang us
        self._writable, self._readable = select.poll(), select.poll()
        self._writable.register(self._input, select.POLLOUT)
        self._readable.register(self._output, select.POLLIN)

    def verdict(self, chunks: Iterable[bytes]) -> str | None:
        """Why the file is refused, None if it is not. The child can be used again if this returns, and must be ended if it raises."""
        self._left = self._limits.seconds
        for piece in _pieces(chunks, self._limits.model_bytes):
            self._send(len(piece).to_bytes(HEADER) + piece)
            if self._readable.poll(0):
                break
        self._send(bytes(HEADER))
        return self._receive()

    def usable(self) -> bool:
        """Whether it is alive, and ours: after a fork it is the parent's, and counts as ended."""
        return self._process.poll() is None

    def end(self) -> None:
        """End the process, unless it is not ours, and give back what it holds of us."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._input, view) :]
            except BlockingIOError:
                self._wait(self._writable)
            except BrokenPipeError:
                self._raise_dead()

    def _receive(self) -> str | None:
        line = b""
        while not line.endswith(b"\n"):
            self._wait(self._readable)
            part = os.read(self._output, PIECE)
            if not part:
                self._raise_dead()
            line += part
        refused = json.loads(line)["refused"]
        return None if refused is None else str(refused)

    def _wait(self, poll: select.poll) -> None:
        started = time.monotonic()
        ready = poll.poll(max(0.0, self._left) * 1000)
        self._left -= time.monotonic() - started
        if not ready:
            raise ModelRefusedError(f"model.onnx takes more than {self._limits.seconds:g} s to check")

    def _raise_dead(self) -> NoReturn:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_DYING_SECONDS)
        code = self._process.returncode
        if code == OUT_OF_MEMORY:
            raise ModelRefusedError(f"model.onnx takes more than {self._limits.memory_bytes >> 20} MiB of memory to check")
        how = f"signal {-code}" if code and code < 0 else f"code {code}"
        raise ModelRefusedError(f"model.onnx could not be checked: the process that did it ended with {how}; try again")


def _start(limits: Limits) -> subprocess.Popen[bytes]:
    root = Path(__file__).resolve().parent.parent
    # -I and -S: nothing of the user's is imported. Some Pythons find their own library by these variables only.
    command = [sys.executable, "-I", "-S", "-B", "-c", _START, str(root), str(limits.memory_bytes), str(limits.nesting)]
    environment = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    try:
        return subprocess.Popen(
            command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment,
            process_group=0,  # Ctrl-C does not reach it even before it can ignore it
        )
    except OSError as error:
        raise ModelRefusedError(f"model.onnx could not be checked: no process could be started for it: {error.strerror}") from error


def _pipe(pipe: IO[bytes] | None) -> int:
    if pipe is None:
        raise ValueError("the child was started without its pipes")
    return pipe.fileno()


def _pieces(chunks: Iterable[bytes], most: int) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise ModelRefusedError(f"model.onnx has more than {most} bytes, the most that is let in")
        for start in range(0, len(chunk), PIECE):
            yield chunk[start : start + PIECE]


def _end_all(children: list[_Child]) -> None:
    for child in children:
        child.end()
