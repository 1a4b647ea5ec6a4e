"""Who calls, by the metadata and the certificate that grpcio hands over, and the credentials of the port. Rules are in `server.access`."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from server.access import ANYBODY, RULES, Need, Principal
from server.errors import PermissionDeniedError, UnauthenticatedError
from server.named_model import named_model
from server.refusals import RefusalLog
from server.security import Security
from server.tls import TlsMaterial

if TYPE_CHECKING:
    from server.grpcio_transport.exchange import Begin, Exchange

_SCHEME = "bearer "


class Caller(Protocol):
    """What is known of a call before its message."""

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """The call's metadata, keys in lower case."""
        ...

    @property
    def peer(self) -> str:
        """The connection it came by."""
        ...

    @property
    def peer_names(self) -> Sequence[str]:
        """The names in the peer's certificate, if it showed one and it was verified; see `server.tls.names_in`."""
        ...


class Guard:
    """Decides over calls by what `security` says at that moment."""

    def __init__(self, security: Security) -> None:
        self._security = security
        self._refusals = RefusalLog()

    def principal(self, path: str, caller: Caller) -> Principal:
        """Who calls `path`. Where authentication is off, or the call needs none, nothing is read and it is `ANYBODY`.

        Raises:
            UnauthenticatedError: if there are no credentials, or bad ones.
        """
        access = self._security.access
        if not access.required or _is_open(path):
            return ANYBODY
        try:
            token = _token(caller.metadata)
            return access.principal(token, caller.peer_names if token is None else (), time.time())
        except UnauthenticatedError as error:
            self._refusals.tell(error, path, caller.peer)
            raise

    def check(self, principal: Principal, path: str, model: str | None, caller: Caller) -> None:
        """Return if `principal` may call `path` on `model`, as in `Access.check`.

        Raises:
            PermissionDeniedError: if not.
        """
        try:
            self._security.access.check(principal, path, model)
        except PermissionDeniedError as error:
            self._refusals.tell(error, path, caller.peer)
            raise

    def guarded(self, path: str, begin: "Begin") -> "Begin":
        """`begin` behind the rule of `path`."""

        def check_and_begin(data: bytes, exchange: "Exchange") -> None:
            self.check(self.principal(path, exchange.head), path, named_model(path, data), exchange.head)
            begin(data, exchange)

        return check_and_begin

    def admission(self, path: str) -> Callable[[Caller], None]:
        """What refuses a stream on `path` before its first message; what its messages are about is not known then."""

        def admit(caller: Caller) -> None:
            self.check(self.principal(path, caller), path, None, caller)

        return admit


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


def _is_open(path: str) -> bool:
    rule = RULES.get(path)
    return rule is not None and rule.need is Need.OPEN


def _token(metadata: Sequence[tuple[str, str | bytes]]) -> str | None:
    """The bearer token, None if there is no `authorization`; the name of the scheme is free in case, as HTTP has it."""
    stated = [value for key, value in metadata if key == "authorization"]
    if not stated:
        return None
    value = stated[0]
    if len(stated) > 1 or not isinstance(value, str) or value[: len(_SCHEME)].lower() != _SCHEME:
        raise UnauthenticatedError("authorization must stand once in the metadata and be `Bearer TOKEN`")
    return value[len(_SCHEME) :].strip()
