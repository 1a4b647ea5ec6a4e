"""The public keys that JSON Web Tokens may be signed with: PEM files or a JWKS file, never an address. Tokens are for `jwt_tokens`.

What a key may verify is fixed by its type, not by what a token says: a public key can never be taken for a shared secret.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from server.errors import SettingsError
from server.secret_files import files_of, read_guarded

PATTERN = "*.pem"
_MIN_RSA_BITS = 2048

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True)
class VerifyingKey:
    """A public key, the `kid` it goes by, and the algorithms it may verify."""

    kid: str
    key: PublicKey
    algorithms: tuple[str, ...]


def read_keys(path: Path) -> tuple[VerifyingKey, ...]:
    """Every key of a PEM file, of the `*.pem` of a folder (each goes by the name of its file), or of a JWKS file.

    Raises:
        SettingsError: if there is none, or one is unreadable, private, too short, or of a kind that is not taken.
    """
    keys = tuple(key for file in files_of(path, PATTERN) for key in _keys_of(file))
    if not keys:
        raise SettingsError(f"{path} holds no key: put public keys there as {PATTERN}, or name a JWKS file")
    if len({key.kid for key in keys}) != len(keys):
        raise SettingsError(f"{path} holds two keys of one name (kid)")
    return keys


def _keys_of(file: Path) -> tuple[VerifyingKey, ...]:
    data = read_guarded(file)
    if data.lstrip().startswith(b"{"):
        return _keys_of_jwks(data, file)
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{file} is neither a public key in PEM nor a JWKS file") from error
    return (VerifyingKey(file.stem, _strong(key, file), _algorithms(key)),)


def _keys_of_jwks(data: bytes, file: Path) -> tuple[VerifyingKey, ...]:
    try:
        members = json.loads(data)["keys"]
        return tuple(_key_of_jwk(member, file) for member in members if member.get("use", "sig") == "sig")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(f"{file} is not a JWKS file: an object whose `keys` is a list of keys") from error


def _key_of_jwk(member: dict[str, object], file: Path) -> VerifyingKey:
    kid = member.get("kid")
    if not isinstance(kid, str) or not kid:
        raise SettingsError(f"{file}: a key has no kid")
    if "d" in member or "k" in member:
        raise SettingsError(f"{file}: key {kid[:80]!r} is secret: put only public keys here")
    try:
        key = jwt.PyJWK({**member, "alg": None}).key
    except jwt.PyJWTError as error:
        # Its own text quotes the whole key.
        raise SettingsError(f"{file}: key {kid[:80]!r} is not one of RSA, EC P-256, EC P-384, Ed25519") from error
    allowed = _algorithms(_strong(key, file))
    alg = member.get("alg")
    if alg is not None and alg not in allowed:
        raise SettingsError(f"{file}: key {kid[:80]!r} is for an algorithm that is not taken: use one of {', '.join(allowed)}")
    return VerifyingKey(kid, key, allowed if alg is None else (str(alg),))


def _strong(key: object, file: Path) -> PublicKey:
    if not isinstance(key, PublicKey) or not _algorithms(key):
        raise SettingsError(f"{file} holds a key that is not one of RSA, EC P-256, EC P-384, Ed25519")
    if isinstance(key, RSAPublicKey) and key.key_size < _MIN_RSA_BITS:
        raise SettingsError(f"{file} holds an RSA key of {key.key_size} bits: use {_MIN_RSA_BITS} at least")
    return key


def _algorithms(key: object) -> tuple[str, ...]:
    match key:
        case RSAPublicKey():
            return "RS256", "PS256"
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return ("ES256",)
        case EllipticCurvePublicKey(curve=SECP384R1()):
            return ("ES384",)
        case Ed25519PublicKey():
            return ("EdDSA",)
        case _:
            return ()
