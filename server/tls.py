"""Certificates: files of them are checked before they are used, so that a bad one is said in words and never installed; and whom one names.

No gRPC here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from server.errors import SettingsError
from server.secret_files import read_guarded

T = TypeVar("T")

_MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for a certificate or key that it cannot read, at the start or when a part of it is asked for"""


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
    if _public(leaf, files.certificate) != _private_public(key, files.key):
        raise SettingsError(f"the key in {files.key} is not that of the certificate in {files.certificate}")
    _check_validity(leaf, files.certificate, now())
    client_ca = None if files.client_ca is None else read_guarded(files.client_ca)
    if client_ca is not None and files.client_ca is not None:
        for authority in _certificates(client_ca, files.client_ca):
            _check_validity(authority, files.client_ca, now())
    return TlsMaterial(chain, key, client_ca, leaf.not_valid_after_utc)


@lru_cache(maxsize=1024)
def names_in(pem: bytes) -> tuple[str, ...]:
    """The URIs and DNS names of a certificate, or, as RFC 6125 has it, the common name of one without; none if it cannot be read.

    Remembered, as a connection shows the same one for all of its calls.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = _alternative_names(certificate)
        return names or tuple(str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[:1])
    except _MALFORMED:
        return ()


def _alternative_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        stated = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return *stated.get_values_for_type(x509.UniformResourceIdentifier), *stated.get_values_for_type(x509.DNSName)


def _certificates(data: bytes, path: Path) -> list[x509.Certificate]:
    return _parsed(lambda: x509.load_pem_x509_certificates(data), f"{path} is not a certificate in PEM")


def _public(certificate: x509.Certificate, path: Path) -> bytes:
    key = _parsed(certificate.public_key, f"{path} is a certificate for a key of a kind that is not known")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _private_public(data: bytes, path: Path) -> bytes:
    key = _parsed(lambda: load_pem_private_key(data, password=None), f"{path} is not an unencrypted private key in PEM")
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _parsed(parse: Callable[[], T], failure: str) -> T:
    try:
        return parse()
    except _MALFORMED as error:
        # Its text may quote the file.
        raise SettingsError(failure) from error


def _check_validity(certificate: x509.Certificate, path: Path, now: datetime) -> None:
    if now >= certificate.not_valid_after_utc:
        raise SettingsError(f"a certificate in {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: renew it")
    if now < certificate.not_valid_before_utc:
        raise SettingsError(f"a certificate in {path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
