"""HTTP/2 by hand, for what no gRPC client would send. No test lives here."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, TrailersReceived
from h2.settings import SettingCodes

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
_Kind = TypeVar("_Kind", bound=Event)


class Wire:
    """One connection to a daemon. `events` is all that came over it."""

    def __init__(self, address: str, settings: Mapping[SettingCodes, int] | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._host = host
        self.socket = socket.create_connection((host, int(port)), 5)
        self.h2 = H2Connection(H2Configuration(client_side=True, validate_inbound_headers=False))
        self.h2.initiate_connection()
        if settings:
            self.h2.update_settings({int(code): value for code, value in settings.items()})
        self.events: list[Event] = []
        self.flush()

    def flush(self) -> None:
        """Send what is to be sent."""
        self.socket.sendall(self.h2.data_to_send())

    def open(self, path: str = MODEL_INFER, **headers: str) -> int:
        """Begin a call; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": self._host}
        fields |= {
            "te": "trailers",
            "content-type": "application/grpc",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        self.h2.send_headers(stream, list(fields.items()))
        return stream

    def message(self, stream: int, data: bytes, *, end: bool = True) -> None:
        """Send a whole message, in frames as large as they may be."""
        framed = b"\0" + len(data).to_bytes(4) + data
        size = self.h2.max_outbound_frame_size
        for place in range(0, len(framed), size):
            part = framed[place : place + size]
            self.h2.send_data(stream, part, end_stream=end and place + size >= len(framed))

    def receive(self, seconds: float) -> bool:
        """Read what is there, waiting for the first of it; False at the end of the connection, or if nothing came."""
        if not select.select([self.socket], [], [], seconds)[0]:
            return False
        try:
            data = self.socket.recv(65_536)
        except ConnectionResetError:
            return False
        self.events += self.h2.receive_data(data) if data else []
        with contextlib.suppress(OSError):
            self.flush()
        return bool(data)

    def of(self, kind: type[_Kind]) -> list[_Kind]:
        """All events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def status(self, stream: int, seconds: float = 5) -> str:
        """The grpc-status of a call once it has one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for event in self.events:
                if isinstance(event, ResponseReceived | TrailersReceived) and event.stream_id == stream:
                    for name, value in event.headers or []:
                        if name == b"grpc-status":
                            return value.decode()
            if not self.receive(deadline - time.monotonic()):
                break
        raise AssertionError(f"stream {stream} has no status")

    def data(self, stream: int) -> bytes:
        """The bytes of a call that came so far."""
        return b"".join(event.data or b"" for event in self.of(DataReceived) if event.stream_id == stream)


@contextlib.contextmanager
def wire(address: str, settings: Mapping[SettingCodes, int] | None = None) -> Iterator[Wire]:
    """A connection, closed without a word at the end of the block."""
    connected = Wire(address, settings)
    try:
        yield connected
    finally:
        connected.socket.close()
