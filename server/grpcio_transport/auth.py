"""The credentials of the port, and calls behind their rules. What the rules are is in `server.access`, who may call in `server.guard`."""

from typing import Any

import grpc

from server.grpcio_transport.exchange import Begin, Exchange
from server.guard import Guard
from server.security import Security
from server.tls import TlsMaterial


def guarded(guard: Guard, path: str, begin: Begin) -> Begin:
    """`begin` behind the rule of `path`."""

    def check_and_begin(data: bytes, exchange: Exchange) -> None:
        guard.check_call(path, data, exchange.head)
        begin(data, exchange)

    return check_and_begin


def server_credentials(security: Security) -> grpc.ServerCredentials | None:
    """TLS with the certificate that `security` has at each handshake; None: no TLS."""
    if security.tls is None:
        return None
    shown = security.tls

    def renewed() -> Any:
        # grpcio asks at every handshake; None keeps the one it has, where anything else makes it build a new context.
        nonlocal shown
        found = security.tls
        if found is None or found is shown:
            return None
        shown = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(_configuration(shown), renewed, require_client_authentication=shown.client_ca is not None)


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key, material.chain)], material.client_ca)
