"""One request and where its answer goes: what the pipeline sees of a call. How grpcio carries it is in `direct`."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from server.tls import names_in

_CERTIFICATE = b"x509_pem_cert"
"""Where gRPC's auth context has the certificate that the peer showed"""


class Head:
    """Deadline, metadata and peer of a call."""

    __slots__ = ("_event",)

    def __init__(self, event: Any) -> None:
        self._event = event

    @property
    def deadline(self) -> float:
        """When the caller stops waiting, in seconds since 1970; infinite or far away if it never does."""
        return float(self._event.call_details.deadline)

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """The call's metadata, keys in lower case."""
        return self._event.invocation_metadata or ()

    @property
    def peer(self) -> str:
        """The connection the call came by, such as `ipv4:127.0.0.1:51234`."""
        return str(self._event.call.peer().decode())

    @property
    def peer_names(self) -> Sequence[str]:
        """The names in the peer's certificate, if it showed one and it was verified."""
        # Not from the names that gRPC hands over beside it: it ends each at a zero byte, so that `shop\0.example.org` would be `shop`.
        shown = (cygrpc.auth_context(self._event.call) or {}).get(_CERTIFICATE)
        return names_in(shown[0]) if shown else ()


class Exchange(Protocol):
    """One request and where its answer goes. `answer` or `refuse` is called once, from any thread; after a cancellation both do nothing."""

    @property
    def head(self) -> Head:
        """What came before the message."""
        ...

    def answer(self, data: bytes) -> None:
        """Send the answer."""
        ...

    def refuse(self, status: grpc.Status) -> None:
        """Send a refusal."""
        ...

    def on_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, on the serving thread, if the call ends before its answer: cancelled, or past its deadline.

        It may be called after the answer as well.
        """
        ...


Begin: TypeAlias = Callable[[bytes, Exchange], None]
"""Takes a message; runs on the one serving thread, so it must not wait for anything."""
