"""Certificates and files that change: what is good takes effect, what is not changes nothing and is said."""

import base64
import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from structlog.testing import capture_logs

from server.access import ANYBODY, Principal, digest_of
from server.errors import SettingsError, UnauthenticatedError
from server.refusals import INTERVAL_SECONDS, RefusalLog
from server.secret_files import MAX_BYTES, Reloaded, Reloader, read_guarded
from server.security import Security
from server.settings import Settings
from server.tls import TlsFiles, names_in, read_tls
from server.tokens import Entry, entry_text
from tests.certificates import DAY, LOCAL, Certificate, authority, issued
from tests.daemons import wait_until

CA = authority("test authority")
SERVER = issued(CA, "daemon", LOCAL)
NOW = 1_700_000_000.0


def put(path: Path, data: bytes) -> Path:
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.chmod(0o600)
    return new.replace(path)


def tls_files(folder: Path, certificate: bytes = SERVER.pem, key: bytes = SERVER.key_pem, client_ca: bytes | None = None) -> TlsFiles:
    put(folder / "tls.pem", certificate)
    put(folder / "tls.key", key)
    ca = None if client_ca is None else put(folder / "ca.pem", client_ca)
    return TlsFiles(folder / "tls.pem", folder / "tls.key", ca)


def test_certificate_key_and_authority_that_belong_together_are_taken(tmp_path: Path) -> None:
    material = read_tls(tls_files(tmp_path, SERVER.pem + CA.pem, client_ca=CA.pem))
    assert material.chain == SERVER.pem + CA.pem
    assert material.client_ca == CA.pem
    assert b"PRIVATE" not in repr(material).encode()


def of_unknown_curve() -> bytes:
    """SERVER's certificate with the identifier of its curve changed in its last digit, to one that nobody has."""
    curve = bytes.fromhex("2a8648ce3d030107")
    data = SERVER.certificate.public_bytes(Encoding.DER)
    assert data.count(curve) == 1
    text = base64.encodebytes(data.replace(curve, curve[:-1] + b"\x63"))
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


ENCRYPTED = SERVER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))


@pytest.mark.parametrize(
    ("certificate", "key", "ca", "named"),
    [
        (SERVER.pem, issued(CA, "other").key_pem, None, "is not that of the certificate"),
        (CA.pem + SERVER.pem, SERVER.key_pem, None, "is not that of the certificate"),
        (b"", SERVER.key_pem, None, "not a certificate"),
        (SERVER.pem[:-40], SERVER.key_pem, None, "not a certificate"),
        (SERVER.key_pem, SERVER.key_pem, None, "not a certificate"),
        (of_unknown_curve(), SERVER.key_pem, None, "of a kind that is not known"),
        (SERVER.pem, b"", None, "not an unencrypted private key"),
        (SERVER.pem, SERVER.pem, None, "not an unencrypted private key"),
        (SERVER.pem, ENCRYPTED, None, "not an unencrypted private key"),
        (SERVER.pem, SERVER.key_pem, b"", "ca.pem is not a certificate"),
    ],
)
def test_what_does_not_belong_together_or_does_not_parse_is_named(
    certificate: bytes, key: bytes, ca: bytes | None, named: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=named) as refused:
        read_tls(tls_files(tmp_path, certificate, key, ca))
    assert "PRIVATE" not in str(refused.value)


@pytest.mark.parametrize(
    ("valid", "named"),
    [((-DAY, timedelta(seconds=-1)), "expired"), ((timedelta(hours=1), DAY), "not valid before")],
)
def test_a_certificate_that_is_not_valid_now_is_refused(valid: tuple[timedelta, timedelta], named: str, tmp_path: Path) -> None:
    made = issued(CA, "daemon", LOCAL, valid)
    with pytest.raises(SettingsError, match=named):
        read_tls(tls_files(tmp_path, made.pem, made.key_pem))


def test_a_key_that_everybody_may_read_is_told_of(tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    files.key.chmod(0o644)
    with capture_logs() as logs:
        read_tls(files)
    assert [log["log_level"] for log in logs] == ["warning"]
    assert "PRIVATE" not in str(logs)


def test_the_names_of_a_certificate_are_whole_and_those_of_one_that_cannot_be_read_are_none() -> None:
    alternatives = (x509.DNSName("shop.internal"), x509.UniformResourceIdentifier("spiffe://tidegate/shop"), *LOCAL)
    assert names_in(issued(CA, "ignored", alternatives).pem) == ("spiffe://tidegate/shop", "shop.internal", "localhost")
    assert names_in(issued(CA, "shop").pem) == ("shop",)
    assert names_in(issued(CA, "shop", LOCAL[:1]).pem) == ("shop",)
    assert names_in(issued(CA, "shop\0.example.org").pem) == ("shop\0.example.org",)
    for unreadable in (b"", b"nonsense", SERVER.pem[:-40]):
        assert names_in(unreadable) == ()


def test_a_pipe_and_an_endless_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (Path(os.devnull), tmp_path / "pipe"):
        with pytest.raises(SettingsError, match="not a file"):
            read_guarded(path)
    large = tmp_path / "large"
    large.touch(0o600)
    os.truncate(large, MAX_BYTES + 1)
    with pytest.raises(SettingsError, match="larger than"):
        read_guarded(large)


def reloaded(path: Path) -> Reloaded[bytes]:
    def read() -> bytes:
        data = read_guarded(path)
        if data == b"bad":
            raise SettingsError("bad")
        return data

    return Reloaded("test", lambda: [path], read)


def test_a_replaced_file_is_read_again_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    value = reloaded(put(tmp_path / "f", b"one"))
    assert not value.refresh()
    put(tmp_path / "f", b"two")
    assert value.refresh()
    assert value.value == b"two"
    assert not value.refresh()


def test_a_bad_file_changes_nothing_is_said_once_and_the_next_good_one_counts(tmp_path: Path) -> None:
    value = reloaded(put(tmp_path / "f", b"one"))
    with capture_logs() as logs:
        put(tmp_path / "f", b"bad")
        assert not value.refresh()
        assert not value.refresh()
        (tmp_path / "f").unlink()
        assert not value.refresh()
    assert value.value == b"one"
    assert [log["log_level"] for log in logs] == ["error", "error"]
    put(tmp_path / "f", b"two")
    assert value.refresh()
    assert value.value == b"two"


def test_a_file_that_defeats_its_parser_holds_no_change_of_another_up(tmp_path: Path) -> None:
    good, bad = (put(tmp_path / name, b"one") for name in ("good", "bad"))

    def read() -> bytes:
        if (data := read_guarded(bad)) != b"one":
            raise RecursionError
        return data

    revoked = threading.Event()
    values = [reloaded(good), Reloaded("bad", lambda: [bad], read)]
    for path in (good, bad):
        put(path, b"two")
    reloader = Reloader(values, revoked.set)
    with capture_logs() as logs:
        reloader.start()
        assert revoked.wait(5)
        reloader.stop()
    assert [value.value for value in values] == [b"two", b"one"]
    assert [log["log_level"] for log in logs if log.get("what") == "bad"] == ["error"]


def test_a_file_refused_for_its_mode_counts_once_that_is_mended(tmp_path: Path) -> None:
    value = reloaded(put(tmp_path / "f", b"one"))
    (tmp_path / "f").write_bytes(b"two")
    (tmp_path / "f").chmod(0o666)
    assert not value.refresh()
    (tmp_path / "f").chmod(0o600)
    assert value.refresh()
    assert value.value == b"two"


def test_a_link_that_is_turned_to_another_folder_is_seen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        put(tmp_path / name / "f", name.encode())
    (tmp_path / "data").symlink_to("one")
    value = reloaded(tmp_path / "data" / "f")
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "data")
    assert value.refresh()
    assert value.value == b"two"


def test_tokens_and_certificates_that_change_take_effect_while_it_runs(tmp_path: Path) -> None:
    tls = tls_files(tmp_path)
    tokens = put(tmp_path / "tokens", entry_text(Entry(name="shop", scopes=("infer",), sha256=digest_of("old"))).encode())
    security = Security(Settings(tokens=tokens, tls_cert=tls.certificate, tls_key=tls.key))
    security.start()
    try:
        assert security.access.credential("old", (), NOW).principal.name == "shop"
        put(tokens, entry_text(Entry(name="shop", scopes=("infer",), sha256=digest_of("new"))).encode())
        wait_until(lambda: digest_of("new") in security.access.tokens, "the tokens are not read again", 5)
        with pytest.raises(UnauthenticatedError):
            security.access.credential("old", (), NOW)
        renewed: Certificate = issued(CA, "renewed", LOCAL)
        tls_files(tmp_path, renewed.pem, renewed.key_pem)
        wait_until(lambda: security.tls is not None and security.tls.chain == renewed.pem, "the certificate is not read again", 5)
    finally:
        security.stop()
    assert "secret-files" not in {thread.name for thread in threading.enumerate()}


def test_without_settings_there_is_neither_tls_nor_authentication() -> None:
    security = Security(Settings())
    security.start()
    security.stop()
    assert security.tls is None
    assert security.access.credential(None, (), NOW).principal is ANYBODY


def test_a_bad_file_at_the_start_ends_it(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        Security(Settings(tokens=tmp_path / "absent"))


def test_refusals_are_told_in_one_line_a_while_with_the_number_of_the_rest() -> None:
    now = 100.0
    log = RefusalLog(lambda: now)
    cause = UnauthenticatedError("unknown token")
    with capture_logs() as logs:
        for _ in range(5):
            log.tell(cause, "/a/b", "ipv4:127.0.0.1:5")
        now += INTERVAL_SECONDS
        log.tell(cause, "/a/b", "ipv4:127.0.0.1:5")
    assert [log["untold"] for log in logs] == [0, 4]
    assert logs[0]["peer"] == "ipv4:127.0.0.1:5"


def test_principals_without_grants_may_nothing() -> None:
    assert not any(Principal("x").may(need, None) for need in ("infer", "read", "feedback"))  # type: ignore[arg-type]
