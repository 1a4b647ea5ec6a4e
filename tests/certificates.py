"""Makes authorities, certificates and keys that are valid for a day, for tests of TLS. No test lives here."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LOCAL = (x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost"))
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both, as something that renews certificates does: each whole, one after the other."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        for path, data in zip(paths, (self.pem, self.key_pem), strict=True):
            new = path.with_suffix(".new")
            new.write_bytes(data)
            new.chmod(0o600)
            new.replace(path)
        return paths


def authority(name: str) -> Certificate:
    """An authority that signed itself."""
    return _made(name, None, (), (-DAY, DAY))


def issued(
    by: Certificate, name: str, names: tuple[x509.GeneralName, ...] = (), valid: tuple[timedelta, timedelta] = (-DAY, DAY)
) -> Certificate:
    """A certificate of common name `name` and alternative `names`, valid from and until so long from now."""
    return _made(name, by, names, valid)


def _made(name: str, by: Certificate | None, names: tuple[x509.GeneralName, ...], valid: tuple[timedelta, timedelta]) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + valid[0])
        .not_valid_after(now + valid[1])
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Certificate(builder.sign(by.key if by else key, hashes.SHA256()), key)
