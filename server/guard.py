"""Decides over calls: who sends one, by its metadata and the certificate of its connection, and whether he may. Rules are in `access`.

How a transport comes by metadata and certificates is its own business.
"""

import time
from collections.abc import Sequence
from typing import Protocol

from server.access import ANYBODYS, RULES, Credential, Need, Principal
from server.errors import PermissionDeniedError, UnauthenticatedError
from server.named_model import named_model
from server.refusals import RefusalLog
from server.security import Security

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
        """Who calls `path`, as in `credential`."""
        return self.credential(path, caller).principal

    def credential(self, path: str, caller: Caller) -> Credential:
        """By what he calls `path`. Where authentication is off, or the call needs none, nothing is read and it is that of `ANYBODY`.

        Raises:
            UnauthenticatedError: if there are no credentials, or bad ones.
        """
        access = self._security.access
        if not access.required or _is_open(path):
            return ANYBODYS
        try:
            token = _token(caller.metadata)
            return access.credential(token, caller.peer_names if token is None else (), time.time())
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

    def check_call(self, path: str, message: bytes, caller: Caller) -> None:
        """Return if `caller` may have `message` answered on `path`.

        Raises:
            UnauthenticatedError, PermissionDeniedError, InputMismatchError: if not, or if it is no message of that call.
        """
        self.check(self.principal(path, caller), path, named_model(path, message), caller)

    def check_stream(self, path: str, caller: Caller) -> None:
        """Return if `caller` may begin a stream on `path`; what its messages will be about is not known yet.

        Raises:
            UnauthenticatedError, PermissionDeniedError: if not.
        """
        self.check(self.principal(path, caller), path, None, caller)


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
