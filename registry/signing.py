"""Ed25519 signatures over what the registry writes: who holds a key, whose keys are trusted, and what a signature covers.

A signed object is JSON with a field `signature`; the signature covers the canonical encoding of all other fields but `checksum`. Keys are
PEM files as openssl writes them. Imports `cryptography`, so it is imported only where there is a key.
"""

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from registry import canonical
from registry.canonical import JsonObject
from registry.errors import KeyFileError, SignatureError
from registry.sealing import CHECKSUM, SIGNATURE

PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"
_SHORT = 12
"""Digits of a key's fingerprint that a person is shown."""


@dataclass(frozen=True)
class Signer:
    """A private key and its fingerprint: the sha256 of the 32 bytes of the public key, in hexadecimal."""

    key: Ed25519PrivateKey
    fingerprint: str

    def sign(self, value: JsonObject) -> JsonObject:
        """`value` with its `signature`."""
        raw = self.key.sign(_covered(value))
        return {**value, SIGNATURE: {"key": self.fingerprint, "ed25519": base64.b64encode(raw).decode()}}

    def trust(self) -> "Trust":
        """Trust in this key alone."""
        return Trust({self.fingerprint: self.key.public_key()}, {self.fingerprint: "this key"})


@dataclass(frozen=True)
class Trust:
    """The public keys that are trusted, by fingerprint, and the name of each: that of its file."""

    keys: Mapping[str, Ed25519PublicKey]
    names: Mapping[str, str]

    def check(self, value: JsonObject, what: str) -> str:
        """Return the name of the key that signed `value`; `what` names it in the error.

        Raises:
            SignatureError: if it is not signed, by none of these keys, or the signature is not that of these bytes.
        """
        signature = value.get(SIGNATURE)
        if not isinstance(signature, Mapping):
            raise SignatureError(f"{what} is not signed: only what a trusted key signed is accepted here")
        fingerprint = str(signature.get("key"))
        if fingerprint not in self.keys:
            known = ", ".join(sorted(self.names.values()))
            raise SignatureError(f"{what} is signed by key {fingerprint[:_SHORT]}, which is not trusted here; trusted: {known}")
        try:
            self.keys[fingerprint].verify(base64.b64decode(str(signature.get("ed25519")), validate=True), _covered(value))
        except (InvalidSignature, ValueError) as error:
            name = self.names[fingerprint]
            raise SignatureError(f"the signature of {what} is not that of key {name!r}: it was changed after it was signed") from error
        return self.names[fingerprint]


def generate(private: Path) -> Path:
    """Make a key pair: `private` (which only its owner may read) and, beside it, the public key; returns the place of the latter.

    Raises:
        KeyFileError: if one of the files exists, or cannot be written.
    """
    if not private.name:
        raise KeyFileError(f"{str(private)!r} is no file: name one, e.g. ana{PRIVATE_SUFFIX}")
    public = private.with_suffix(PUBLIC_SUFFIX)
    if public == private:
        raise KeyFileError(f"{private} is where the public key would go: name the private key something else, e.g. {private.stem}.key")
    key = Ed25519PrivateKey.generate()
    _write_new(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    _write_new(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), mode=0o644)
    return public


def load_signer(path: Path) -> Signer:
    """Read a private key.

    Raises:
        KeyFileError: if it cannot be read or is not an unencrypted Ed25519 key.
    """
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} is not an unencrypted private key in PEM: make one with tidegate registry keygen") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is a private key of another kind: only Ed25519 is used; make one with tidegate registry keygen")
    return Signer(key, fingerprint_of(key.public_key()))


def load_trust(path: Path) -> Trust:
    """Read one public key, or every `*.pub` of a folder.

    Raises:
        KeyFileError: if there is none, or one cannot be read or is not an Ed25519 key.
    """
    files = sorted(path.glob(f"*{PUBLIC_SUFFIX}")) if path.is_dir() else [path]
    if not files:
        raise KeyFileError(f"{path} holds no public key: put *{PUBLIC_SUFFIX} files there, as tidegate registry keygen makes them")
    keys = {fingerprint_of(key): (key, file.stem) for file in files for key in [_public_key(file)]}
    return Trust({found: key for found, (key, _) in keys.items()}, {found: name for found, (_, name) in keys.items()})


def fingerprint_of(key: Ed25519PublicKey) -> str:
    """The sha256 of the 32 bytes of a public key, 64 hexadecimal digits."""
    return sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def _covered(value: JsonObject) -> bytes:
    return canonical.encode({key: item for key, item in value.items() if key not in {SIGNATURE, CHECKSUM}})


def _public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileError(
            f"{path} is not a public key in PEM: give the *{PUBLIC_SUFFIX} file that tidegate registry keygen made"
        ) from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} is a public key of another kind: only Ed25519 is used")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"cannot read the key {path}: {error.strerror}") from error


def _write_new(path: Path, content: bytes, *, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as file:  # noqa: PTH123 -- a descriptor, so that the mode is right from the start
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise KeyFileError(f"{path} exists: a key is never overwritten; name another file, or remove it if nobody needs it") from error
    except OSError as error:
        raise KeyFileError(f"cannot write the key {path}: {error.strerror}") from error
