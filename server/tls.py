"""Certificate files: what they hold is checked before it is used, so that a bad one is said in words and never installed. No gRPC here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from server.errors import SettingsError
from server.secret_files import read_guarded

T = TypeVar("T")


@dataclass(frozen=True)
class TlsFiles:
    """Where certificate chain, private key and, if clients need certificates, their authorities are."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> Sequence[Path]:
        """All of them."""
        return [path for path in (self.certificate, self.key, self.client_ca) if path is not None]


@dataclass(frozen=True)
class TlsMaterial:
    """PEM bytes that belong together: the key is that of the chain's first certificate. `expires` is when that one does."""

    chain: bytes
    key: bytes
    client_ca: bytes | None
    expires: datetime

    def __repr__(self) -> str:
        return f"TlsMaterial(expires={self.expires.isoformat()})"


def read_tls(files: TlsFiles, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> TlsMaterial:
    """Read and check certificate, key and authorities.

    Raises:
        SettingsError: if a file cannot be read or parsed, the key is encrypted or not the certificate's, or a certificate is not valid now.
    """
    chain = read_guarded(files.certificate)
    key = read_guarded(files.key, secret=True)
    leaf = _certificates(chain, files.certificate)[0]
    if _public(leaf) != _private_public(key, files.key):
        raise SettingsError(f"the key in {files.key} is not that of the certificate in {files.certificate}")
    _check_validity(leaf, files.certificate, now())
    client_ca = None if files.client_ca is None else read_guarded(files.client_ca)
    if client_ca is not None and files.client_ca is not None:
        for authority in _certificates(client_ca, files.client_ca):
            _check_validity(authority, files.client_ca, now())
    return TlsMaterial(chain, key, client_ca, leaf.not_valid_after_utc)


def _certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    return _parsed(lambda: x509.load_pem_x509_certificates(data), f"{path} is not a certificate in PEM")


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _private_public(data: bytes, path: Path) -> bytes:
    key = _parsed(lambda: load_pem_private_key(data, password=None), f"{path} is not an unencrypted private key in PEM")
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _parsed(parse: Callable[[], T], failure: str) -> T:
    try:
        return parse()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # Its text may quote the file.
        raise SettingsError(failure) from error


def _check_validity(certificate: x509.Certificate, path: Path, now: datetime) -> None:
    if now >= certificate.not_valid_after_utc:
        raise SettingsError(f"a certificate in {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it")
    if now < certificate.not_valid_before_utc:
        raise SettingsError(f"a certificate in {path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
