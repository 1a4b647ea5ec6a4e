"""JSON Web Tokens: what makes one valid, and whom it stands for. The keys are read by `jwt_keys`; nothing here asks the network.

`sub` is the principal's name; `scope` (text, separated by spaces) or `scp` (a list) are its scopes, those of others are passed over.
"""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import jwt

from server.access import Credential, Grant, Principal
from server.errors import UnauthenticatedError
from server.jwt_keys import VerifyingKey

MAX_TOKEN_BYTES = 8 << 10
LEEWAY_SECONDS = 30
MAX_REMEMBERED = 4096
_MAX_GRANTS = 64
_MAX_NAME = 128
_REQUIRED = ("exp", "sub", "iss", "aud")


class JwtVerifier:
    """Verifies tokens of one issuer for one audience; thread-safe.

    A valid token is remembered by its sha256 until it expires, at most 4,096 of them; one that is not valid is never remembered.
    """

    def __init__(self, keys: Sequence[VerifyingKey], issuer: str, audience: str) -> None:
        self._keys = {key.kid: key for key in keys}
        self._issuer = issuer
        self._audience = audience
        self._remembered: OrderedDict[str, Credential] = OrderedDict()
        self._lock = threading.Lock()

    def verify(self, token: str, digest: str, now: float) -> Credential:
        """See `server.access.TokenVerifier`."""
        with self._lock:
            known = self._remembered.get(digest)
            if known is not None:
                self._remembered.move_to_end(digest)
        if known is not None and now < known.expires:
            return known
        credential = self._credential(token)
        with self._lock:
            self._remembered[digest] = credential
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return credential

    def _credential(self, token: str) -> Credential:
        if len(token) > MAX_TOKEN_BYTES:
            raise UnauthenticatedError(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            claims = self._claims(token)
            return Credential(_principal(claims), int(claims["exp"]) + LEEWAY_SECONDS)
        except jwt.ExpiredSignatureError as error:
            raise UnauthenticatedError("token expired") from error
        except jwt.ImmatureSignatureError as error:
            raise UnauthenticatedError("the token is not valid yet") from error
        # Beside its own errors PyJWT lets out those of what it parses with; which of them it was is for the log alone.
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise UnauthenticatedError("unknown token") from error

    def _claims(self, token: str) -> Mapping[str, Any]:
        header = jwt.get_unverified_header(token)
        key = self._key(header)
        return jwt.decode(
            token,
            key.key,
            algorithms=key.algorithms,
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": list(_REQUIRED)},
        )

    def _key(self, header: Mapping[str, Any]) -> VerifyingKey:
        """The key that `kid` names; a token that names none may only mean the only key there is."""
        kid = header.get("kid")
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        if kid not in self._keys:
            raise jwt.InvalidKeyError("no such key")
        return self._keys[kid]


def _principal(claims: Mapping[str, Any]) -> Principal:
    name = claims["sub"]
    if not name or len(name) > _MAX_NAME or not name.isprintable():
        raise ValueError("the subject is no name")
    return Principal(name, tuple(_grants(claims)))


def _grants(claims: Mapping[str, Any]) -> list[Grant]:
    stated = claims.get("scope", claims.get("scp", ()))
    scopes = stated.split() if isinstance(stated, str) else stated
    grants = []
    for scope in list(scopes)[:_MAX_GRANTS]:
        try:
            grants.append(Grant.parse(str(scope)))
        except ValueError:
            continue
    return grants
