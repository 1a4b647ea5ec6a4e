"""Who may call what: principals, what they are granted, and the rule of every RPC. Pure: no gRPC, no files, no clock.

A call without a rule is denied, to everybody. What a token or a certificate says is read by `tokens`, `jwt_tokens` and the transports.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from hashlib import sha256
from types import MappingProxyType
from typing import Protocol, Self

from server.errors import PermissionDeniedError, UnauthenticatedError

ALL = "*"
"""Every scope, or every model."""


class Need(StrEnum):
    """What a call needs: a scope, or nothing at all (OPEN), or what nobody has (NOBODY)."""

    OPEN = "open"
    NOBODY = "nobody"
    INFER = "infer"
    READ = "read"
    FEEDBACK = "feedback"


SCOPES = (Need.INFER, Need.READ, Need.FEEDBACK)


@dataclass(frozen=True)
class Rule:
    """What an RPC needs, and which field of its request names the model it is about; no field if it is about none.

    `about_all`: it is about every model, unless the field names one.
    """

    need: Need
    model_field: str | None = None
    about_all: bool = False


_INFERENCE = "/inference.GRPCInferenceService"
_REFLECTION = "/grpc.reflection.v1alpha.ServerReflection"
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # Probes of an orchestrator carry no secrets, and learn no more than whether a model of a name they know is there.
        f"{_INFERENCE}/ServerLive": Rule(Need.OPEN),
        f"{_INFERENCE}/ServerReady": Rule(Need.OPEN),
        "/grpc.health.v1.Health/Check": Rule(Need.OPEN),
        "/grpc.health.v1.Health/Watch": Rule(Need.OPEN),
        f"{_INFERENCE}/ModelInfer": Rule(Need.INFER, "model_name"),
        f"{_INFERENCE}/ModelStreamInfer": Rule(Need.INFER, "model_name"),
        f"{_INFERENCE}/ServerMetadata": Rule(Need.READ),
        f"{_INFERENCE}/ModelReady": Rule(Need.READ, "name"),
        f"{_INFERENCE}/ModelMetadata": Rule(Need.READ, "name"),
        f"{_INFERENCE}/ModelConfig": Rule(Need.READ, "name"),
        f"{_INFERENCE}/ModelStatistics": Rule(Need.READ, "name", about_all=True),
        f"{_INFERENCE}/RepositoryIndex": Rule(Need.READ, about_all=True),
        # What is loaded is decided by the registry.
        f"{_INFERENCE}/RepositoryModelLoad": Rule(Need.NOBODY),
        f"{_INFERENCE}/RepositoryModelUnload": Rule(Need.NOBODY),
        "/tidegate.v1.MonitoringService/GetDrift": Rule(Need.READ, "model"),
        "/tidegate.v1.MonitoringService/RecordFeedback": Rule(Need.FEEDBACK, "model"),
        f"{_REFLECTION}/ServerReflectionInfo": Rule(Need.READ),
    }
)
"""The rule of every RPC by its path. A test walks the descriptors of all services and fails on an RPC that has none."""

_GRANT = re.compile(r"(?P<scope>infer|read|feedback|\*)(?::(?P<models>[A-Za-z0-9._*?-]{1,63}))?")


@dataclass(frozen=True)
class Grant:
    """A scope (or `*`) on the models whose names match a glob of `*` and `?`. `parse(str(grant)) == grant`."""

    scope: str
    models: str = ALL

    def __str__(self) -> str:
        return self.scope if self.models == ALL else f"{self.scope}:{self.models}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `infer`, `infer:churn`, `infer:fraud-*`, `*` ...

        Raises:
            ValueError: if it is none of these; says which there are.
        """
        match = _GRANT.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text[:80]!r} is no scope: write {', '.join(SCOPES)} or {ALL}, or one of them with models, like infer:fraud-*"
            )
        return cls(match["scope"], match["models"] or ALL)

    def allows(self, need: Need, model: str | None) -> bool:
        """Whether it covers `need` on `model`; an empty name is all models, None is no model in particular."""
        if self.scope != need and self.scope != ALL:  # noqa: PLR1714 -- every call comes here, and a tuple takes twice as long
            return False
        return model is None or self.models == ALL or (model != "" and fnmatchcase(model, self.models))


@dataclass(frozen=True)
class Principal:
    """Who calls. `rate` is in rows a second, `burst` in rows; None: no limit of its own."""

    name: str
    grants: tuple[Grant, ...] = ()
    rate: float | None = None
    burst: float | None = None

    def may(self, need: Need, model: str | None) -> bool:
        """Whether one of its grants covers `need` on `model`, as in `Grant.allows`."""
        for grant in self.grants:  # noqa: SIM110 -- the same: a generator costs more than what it is asked
            if grant.allows(need, model):
                return True
        return False


@dataclass(frozen=True)
class Credential:
    """Whom a token or a certificate stands for, and until when, in seconds since 1970."""

    principal: Principal
    expires: float = math.inf


ANYBODYS = Credential(Principal("", (Grant(ALL),)))
ANYBODY = ANYBODYS.principal
"""Whoever calls while authentication is off, and what he needs for it."""


class TokenVerifier(Protocol):
    """Tokens that prove themselves, by a signature."""

    def verify(self, token: str, digest: str, now: float) -> Credential:
        """Whom `token` stands for, and until when; `digest` is its sha256, `now` in seconds since 1970.

        Raises:
            UnauthenticatedError: if it is not valid, or not now.
        """
        ...


@dataclass(frozen=True)
class Access:
    """All that decides over a call, one immutable value that is replaced when a file of it changes.

    `tokens` are credentials by the sha256 of the token in hexadecimal, `certificates` by a name of the peer's certificate, `signed` knows
    tokens that prove themselves. Unless `required`, whoever calls is `ANYBODY`.
    """

    required: bool = True
    tokens: Mapping[str, Credential] = field(default_factory=lambda: MappingProxyType({}))
    certificates: Mapping[str, Credential] = field(default_factory=lambda: MappingProxyType({}))
    signed: TokenVerifier | None = None

    def credential(self, token: str | None, certificate: Sequence[str], now: float) -> Credential:
        """That of whoever calls with `token`, or else with a verified certificate of these names; `now` is in seconds since 1970.

        A bad token is refused even where the certificate alone would do. A certificate that no credential names is somebody without rights.

        Raises:
            UnauthenticatedError: if there is neither, or the token is unknown or expired.
        """
        if not self.required:
            return ANYBODYS
        if token is not None:
            return self._of_token(token, now)
        if certificate:
            found = next((self.certificates[name] for name in certificate if name in self.certificates), None)
            return Credential(Principal(certificate[0])) if found is None else _unexpired(found, now, "certificate")
        raise UnauthenticatedError("this daemon wants credentials: send the metadata `authorization: Bearer TOKEN`")

    def check(self, principal: Principal, path: str, model: str | None) -> None:
        """Return if `principal` may call `path` on `model`: "" for all models, None for a call that is about none.

        Raises:
            PermissionDeniedError: if not, or if the path has no rule.
        """
        rule = RULES.get(path)
        if rule is None:
            raise PermissionDeniedError(f"{path[:100]} is not for callers")
        need = rule.need
        if need is Need.NOBODY:
            raise PermissionDeniedError("the registry decides what is loaded: `tidegate promote` puts a version in a stage")
        if need is not Need.OPEN and not principal.may(need, model):
            of = "" if model is None else f" of model {model[:80]!r}" if model else " of all models"
            raise PermissionDeniedError(f"{principal.name[:80]!r} does not have the scope {need}{of}")

    def _of_token(self, token: str, now: float) -> Credential:
        # Looked up by its hash: what the time of a comparison tells is about the hash, which a caller cannot steer.
        digest = digest_of(token)
        known = self.tokens.get(digest)
        if known is not None:
            return _unexpired(known, now, "token")
        if self.signed is not None and token.count(".") == 2:  # noqa: PLR2004 -- a JWT has three parts
            return self.signed.verify(token, digest, now)
        raise UnauthenticatedError("unknown token")


OPEN_ACCESS = Access(required=False)
"""Authentication is off: whoever calls may call all that has a rule."""


def digest_of(token: str) -> str:
    """The sha256 of a token, in hexadecimal."""
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _unexpired(credential: Credential, now: float, what: str) -> Credential:
    if now >= credential.expires:
        raise UnauthenticatedError(f"{what} expired")
    return credential
