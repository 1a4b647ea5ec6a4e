"""A daemon that leaks on purpose: 64 KiB at each swap of the routing table. The control of the check that the real one does not."""

import sys

from server.__main__ import main
from server.grpcio_transport.transport import GrpcioTransport
from server.routing import RoutingTable

LEAK = 64 << 10
_leaked: list[bytes] = []
_install = GrpcioTransport.install


def _leaking_install(transport: GrpcioTransport, table: RoutingTable) -> None:
    _leaked.append(bytes([len(_leaked) % 255 + 1]) * LEAK)  # written to, so that it is resident
    _install(transport, table)


GrpcioTransport.install = _leaking_install  # type: ignore[method-assign,assignment]

if __name__ == "__main__":
    sys.exit(main())
