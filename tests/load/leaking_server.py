"""A daemon that leaks on purpose: 64 KiB at each swap of the routing table. The control of the check that the real one does not."""

import sys
from collections.abc import Mapping
from functools import partial

from server import app, transports
from server.__main__ import main
from server.observed import Observers
from server.routing import RoutingTable
from server.security import Security
from server.service import Call
from server.settings import Settings
from server.transport import Transport

LEAK = 64 << 10
_leaked: list[bytes] = []


def _leaking(name: str) -> transports.MakeTransport:
    def make(settings: Settings, calls: Mapping[str, Call], security: Security, observers: Observers) -> Transport:
        transport = transports.TRANSPORTS[name]()(settings, calls, security, observers)
        install = transport.install

        def leaking_install(table: RoutingTable) -> None:
            _leaked.append(bytes([len(_leaked) % 255 + 1]) * LEAK)  # written to, so that it is resident
            install(table)

        transport.install = leaking_install  # type: ignore[method-assign]
        return transport

    return make


if __name__ == "__main__":
    app.TRANSPORTS = {name: partial(_leaking, name) for name in transports.TRANSPORTS}  # type: ignore[attr-defined]
    sys.exit(main())
