"""The token file: who holds which token or certificate, and what that lets them do. It holds hashes of tokens, never a token.

The format is described in docs/formats/tokens.md. Tokens that prove themselves are in `jwt_tokens`.
"""

import re
import secrets
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from server.access import Credential, Grant, Principal, digest_of
from server.errors import SettingsError
from server.secret_files import read_guarded

PREFIX = "tidegate_"
"""What every token made here begins with, so that scanners for leaked secrets know it."""
NAME = r"[A-Za-z0-9][A-Za-z0-9._@:/-]{0,127}"
_SECRET_BYTES = 32


@dataclass(frozen=True)
class Credentials:
    """The credentials of a token file: tokens by their sha256 in hexadecimal, certificates by a name in them."""

    tokens: Mapping[str, Credential]
    certificates: Mapping[str, Credential]


class Entry(BaseModel):
    """One `[[principal]]` of a token file: a name, and one credential of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    """Who: stands in logs, and shares one rate limit over all of its credentials"""
    scopes: tuple[str, ...]
    """What it may do, each as `server.access.Grant` reads it"""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Of the token"""
    certificate: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """A name in a client certificate: URI or DNS name, or the common name of one that has neither"""
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Rows a second"""
    burst: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Rows at once"""
    expires: AwareDatetime | None = None
    """From when on it is refused"""

    @field_validator("scopes")
    @classmethod
    def _check_scopes(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        for scope in scopes:
            Grant.parse(scope)
        return scopes

    @model_validator(mode="after")
    def _check_credential(self) -> Self:
        if (self.sha256 is None) == (self.certificate is None):
            raise ValueError(f"{self.name} needs either sha256 or certificate")
        if self.burst is not None and self.rate is None:
            raise ValueError(f"{self.name} has a burst without a rate")
        return self

    @property
    def principal(self) -> Principal:
        """Whom it stands for."""
        return Principal(self.name, tuple(map(Grant.parse, self.scopes)), self.rate, self.burst)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    principal: tuple[Entry, ...] = ()


def read_tokens(path: Path) -> Credentials:
    """Read a token file.

    Raises:
        SettingsError: if it cannot be read, others may write it, or an entry is wrong; it never quotes what an entry holds.
    """
    try:
        entries = _File.model_validate(tomllib.loads(read_guarded(path).decode())).principal
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: {_first_of(error)}") from error
    _check_together(entries, path)
    return Credentials(
        MappingProxyType({entry.sha256: _credential(entry) for entry in entries if entry.sha256}),
        MappingProxyType({entry.certificate: _credential(entry) for entry in entries if entry.certificate}),
    )


def new_token() -> str:
    """A new random token."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def entry_text(entry: Entry) -> str:
    """The lines that put `entry` into a token file."""
    lines = ["[[principal]]"]
    for name, value in entry.model_dump(exclude_none=True).items():
        lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def entry_of(token: str, name: str, scopes: tuple[str, ...], *, rate: float | None, burst: float | None, expires: datetime | None) -> Entry:
    """The entry of a token.

    Raises:
        SettingsError: if the name, a scope or a limit is wrong.
    """
    try:
        return Entry(name=name, scopes=scopes, sha256=digest_of(token), rate=rate, burst=burst, expires=expires)
    except ValidationError as error:
        raise SettingsError(_first_of(error)) from error


def _first_of(error: ValidationError) -> str:
    """Where and what is wrong, without what stands there."""
    first = error.errors(include_input=False, include_url=False)[0]
    return ": ".join([*([".".join(map(str, first["loc"]))] if first["loc"] else []), first["msg"].removeprefix("Value error, ")])


def _credential(entry: Entry) -> Credential:
    return Credential(entry.principal) if entry.expires is None else Credential(entry.principal, entry.expires.timestamp())


def _check_together(entries: tuple[Entry, ...], path: Path) -> None:
    limits: dict[str, tuple[float | None, float | None]] = {}
    seen: set[str] = set()
    for entry in entries:
        credential = entry.sha256 or entry.certificate or ""
        if credential in seen:
            raise SettingsError(f"{path}: {entry.name} has a credential that stands in the file already")
        seen.add(credential)
        if limits.setdefault(entry.name, (entry.rate, entry.burst)) != (entry.rate, entry.burst):
            raise SettingsError(f"{path}: {entry.name} has two rates: all credentials of a name share one")


def _toml(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return '"' + re.sub(r'["\\\x00-\x1f\x7f]', lambda match: f"\\u{ord(match[0]):04x}", value) + '"'
    return repr(value)
