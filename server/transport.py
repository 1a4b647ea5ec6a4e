"""What a transport is: the seam between the program and the wire. Implementations: `grpcio_transport`, `native`; `transports` chooses."""

from typing import Protocol

from server.counts import Counters
from server.routing import RoutingTable


class Transport(Protocol):
    """Listens, decodes, routes, admits, batches, answers, counts."""

    def start(self) -> str:
        """Listen; returns the address, with the port really bound if it has one.

        Raises:
            SettingsError: if the address is taken.
        """
        ...

    def install(self, table: RoutingTable) -> None:
        """Route by `table` from now on; requests already admitted finish on the version they were given."""
        ...

    def drain(self, seconds: float) -> None:
        """Say NOT_SERVING, go on serving for `seconds`, then accept nothing more and finish what is in flight."""
        ...

    def counters(self) -> Counters:
        """All counts since the start."""
        ...
