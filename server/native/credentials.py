"""Credentials as plain values, as Rust reads them: what it may know of a caller without asking. See `src/grants.rs`."""

from collections.abc import Mapping
from typing import NamedTuple

from server.access import ALL, Access, Credential, Need


class Holder(NamedTuple):
    """Whom a credential stands for: rate and burst in rows, 0 for none; globs of the models he may have inferences of; until when."""

    name: str
    rate: float
    burst: float
    models: tuple[str, ...]
    expires: float


def holder(credential: Credential) -> Holder:
    """What a credential says of inferences."""
    principal = credential.principal
    models = tuple(grant.models for grant in principal.grants if grant.scope in {Need.INFER, ALL})
    return Holder(principal.name, principal.rate or 0.0, principal.burst or 0.0, models, credential.expires)


def listed(access: Access) -> tuple[Mapping[bytes, Holder], Mapping[str, Holder]]:
    """The tokens that are listed, by their sha256, and the certificates, by a name in them."""
    tokens = {bytes.fromhex(digest): holder(credential) for digest, credential in access.tokens.items()}
    return tokens, {name: holder(credential) for name, credential in access.certificates.items()}
