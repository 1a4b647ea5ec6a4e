"""What a replica and its parent say to each other: lines over the replica's stdin and stdout. Used by both, so it imports nothing heavy.

The replica says that it has loaded what can be loaded, that nothing is missing of it (`ready`), and that it listens. The parent says when
to `listen`, as callers reach whoever listens, loaded or not; when to answer the `scrape` of metrics, whose port a replica that leaves keeps
to its end; and when to `leave`. When the parent is gone, whatever the reason, stdin ends, and the replica drains and ends too.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from server.errors import SettingsError

LISTEN = b"listen\n"
SCRAPE = b"scrape\n"
LEAVE = b"leave\n"
LOADED = b"loaded\n"
READY = b"ready\n"
LISTENING = b"listening\n"

LISTEN_SIGNAL = signal.SIGUSR2
LEAVE_SIGNAL = signal.SIGUSR1
ORPHANED_SIGNAL = signal.SIGHUP
"""What a replica's main thread, which waits for signals, gets for `listen`, `leave` and the end of stdin."""
_SIGNALS = {LISTEN: LISTEN_SIGNAL, LEAVE: LEAVE_SIGNAL}


@dataclass(frozen=True)
class Seat:
    """The number of a replica, and the descriptor of the listener for its metrics, which the parent opened and keeps open."""

    number: int
    metrics_fd: int

    def __str__(self) -> str:
        return f"{self.number}:{self.metrics_fd}"

    def metrics_listener(self) -> socket.socket:
        """The listener."""
        return socket.socket(fileno=self.metrics_fd)


def parse_seat(text: str) -> Seat:
    """`parse_seat(str(seat)) == seat`.

    Raises:
        SettingsError: if it is none.
    """
    number, colon, descriptor = text.partition(":")
    if not (colon and number.isdecimal() and descriptor.isdecimal()):
        raise SettingsError("--replica is what a daemon says to the replicas it starts: use --replicas")
    return Seat(int(number), int(descriptor))


def report(event: bytes) -> None:
    """Tell the parent. One that is gone is told nothing: stdin has ended too, which is how the replica learns of it."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, event)


def obey(scrape: Callable[[], None]) -> None:
    """Hear what the parent says, on a thread: `scrape` is done there, the rest reaches the main thread as a signal."""

    def run() -> None:
        # Unbuffered: a thread that waits in sys.stdin holds a lock which the end of the interpreter needs.
        with open(0, "rb", buffering=0, closefd=False) as stdin:
            for line in stdin:
                if line == SCRAPE:
                    scrape()
                elif line in _SIGNALS:
                    os.kill(os.getpid(), _SIGNALS[line])
        os.kill(os.getpid(), ORPHANED_SIGNAL)

    threading.Thread(target=run, name="parent", daemon=True).start()
