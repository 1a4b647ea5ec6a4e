"""What protects the gRPC port, as the settings and the files they name say now: who may call what, and the certificate it shows.

Transports ask it anew for every call and every handshake. What the files mean is in `tokens`, `jwt_keys` and `tls`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from server.access import OPEN_ACCESS, Access
from server.jwt_keys import PATTERN, VerifyingKey, read_keys
from server.jwt_tokens import JwtVerifier
from server.secret_files import Reloaded, Reloader, files_of
from server.settings import Settings
from server.tls import TlsFiles, TlsMaterial, read_tls
from server.tokens import Credentials, read_tokens


class Security:
    """Reads the files once, and again when they change while it runs.

    Raises:
        SettingsError: if one of them is not usable at the start. Later what it said before stays in force.
    """

    access: Access
    """Who may call what: replaced, never changed"""

    def __init__(self, settings: Settings) -> None:
        self._issuer, self._audience = settings.jwt_issuer or "", settings.jwt_audience or ""
        self._tokens = _tokens(settings.tokens) if settings.tokens else None
        self._keys = _keys(settings.jwt_keys) if settings.jwt_keys else None
        self._tls = _tls(settings)
        files: list[Reloaded[Any] | None] = [self._tokens, self._keys, self._tls]
        self._reloader = Reloader([value for value in files if value is not None], self._renew)
        self._renewed: list[Callable[[], None]] = []
        self._renew()

    @property
    def tls(self) -> TlsMaterial | None:
        """The certificate for the next handshake; None: no TLS."""
        return self._tls.value if self._tls else None

    def on_renewal(self, callback: Callable[[], None]) -> None:
        """Have `callback` called whenever a file has changed what is said here, for transports that do not ask anew each time."""
        self._renewed.append(callback)

    def start(self) -> None:
        """Look after the files from now on."""
        self._reloader.start()

    def stop(self) -> None:
        """Look no more."""
        self._reloader.stop()

    def _renew(self) -> None:
        self.access = self._read_access()
        for callback in self._renewed:
            callback()

    def _read_access(self) -> Access:
        if self._tokens is None and self._keys is None:
            return OPEN_ACCESS
        listed = self._tokens.value if self._tokens else Credentials({}, {})
        signed = JwtVerifier(self._keys.value, self._issuer, self._audience) if self._keys else None
        return Access(tokens=listed.tokens, certificates=listed.certificates, signed=signed)


def _tokens(path: Path) -> Reloaded[Credentials]:
    return Reloaded("tokens", lambda: [path], partial(read_tokens, path))


def _keys(path: Path) -> Reloaded[tuple[VerifyingKey, ...]]:
    return Reloaded("JWT keys", lambda: files_of(path, PATTERN), partial(read_keys, path))


def _tls(settings: Settings) -> Reloaded[TlsMaterial] | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    return Reloaded("certificate", lambda: files.paths, partial(read_tls, files))
