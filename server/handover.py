"""Leaving a port that other processes share, so that no request fails: first no new connection, then no old one.

gRPC's own stop does neither. It closes a listener on which connections wait to be accepted, and they are reset; and it ends the requests
that arrive between its GOAWAY and the moment their caller has read it. What is here works on the sockets of the process, whichever
transport opened them. Linux only.
"""

import contextlib
import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SETTLE_SECONDS = 0.1
"""For the handshakes that are under way; a caller whose SYN is dropped sends it again after a second, to another listener."""

_SO_ATTACH_FILTER = 26
_TCP_ESTABLISHED = 1
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of TCP flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone
    (0x06, 0, 0, 0),  # drops the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # anything else passes
)
"""Classic BPF: code, jump if true, jump if false, operand"""


def refuse_new(port: int) -> None:
    """Accept no connection any more, and lose none that has been made."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _DROP_SYN))
    pointer = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(program))
    with contextlib.ExitStack() as stack:
        listeners = [found for found in map(stack.enter_context, _sockets(port)) if _listens(found)]
        for listener in listeners:
            listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)
        time.sleep(SETTLE_SECONDS)
        for listener in listeners:
            with contextlib.suppress(OSError):  # whoever owns it may have closed it meanwhile
                listener.shutdown(socket.SHUT_RDWR)


def wait_until_left(port: int, seconds: float, interrupted: Callable[[float], bool]) -> bool:
    """Wait until no connection is open, at most `seconds`; returns whether that is so.

    `interrupted` waits for the seconds it is given, or returns True earlier to end the wait.
    """
    deadline = time.monotonic() + seconds
    while _connections(port):
        if interrupted(0.05) or time.monotonic() >= deadline:
            return False
    return True


def _connections(port: int) -> int:
    return sum(_is_open(found) for found in _sockets(port))


def _sockets(port: int) -> Iterator[socket.socket]:
    """Duplicates of this process's TCP sockets of a local port, for the caller to close."""
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed, or of a kind without an address
            if not path.readlink().name.startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(path.name)))
            if found.family in {socket.AF_INET, socket.AF_INET6} and found.getsockname()[1] == port:
                yield found
            else:
                found.close()


def _listens(found: socket.socket) -> bool:
    return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _is_open(found: socket.socket) -> bool:
    with found:
        return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_ESTABLISHED
