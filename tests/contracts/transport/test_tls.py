"""TLS of a running daemon: whom a client certificate names, what is refused, and certificates that change under load."""

import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from registry.registry import Registry
from server.tokens import Entry
from tests.certificates import LOCAL, Certificate, authority, issued
from tests.contracts.transport.credentials import (
    DENIED,
    INFER,
    INFERENCE,
    LOOKUP,
    OK,
    SCALED,
    STREAM,
    UNAUTHENTICATED,
    call,
    put_tokens,
    token_entries,
)
from tests.daemons import daemon, wait_until
from tidegate_protos import inference_pb2 as pb

CA, OTHER_CA = authority("authority"), authority("another authority")
SERVER = issued(CA, "daemon", LOCAL)
CLIENTS = {
    "dns": issued(CA, "ignored", (x509.DNSName("shop.internal"),)),
    "uri": issued(CA, "ignored", (x509.UniformResourceIdentifier("spiffe://tidegate/shop"),)),
    "name": issued(CA, "shop"),
    "hidden": issued(CA, "shop", (x509.DNSName("other.internal"),)),
    "name to a zero byte": issued(CA, "shop\0.example.org"),
    "dns to a zero byte": issued(CA, "ignored", (x509.DNSName("shop.internal\0.example.org"),)),
    "uri to a zero byte": issued(CA, "ignored", (x509.UniformResourceIdentifier("spiffe://tidegate/shop\0.example.org"),)),
    "stranger": issued(CA, "stranger"),
}


def channel_to(address: str, ca: Certificate = CA, client: Certificate | None = None) -> grpc.Channel:
    """A new connection, never one of another test."""
    pair = (None, None) if client is None else (client.key_pem, client.pem)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca.pem, *pair), [("grpc.use_local_subchannel_pool", 1)])


@pytest.fixture(scope="module")
def mutual(filled: tuple[Registry, Path], tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[str]:
    """The address of a daemon that wants client certificates."""
    folder = tmp_path_factory.mktemp(f"mutual-{transport}")
    certificate, key = SERVER.write(folder, "tls")
    ca = folder / "ca.pem"
    ca.write_bytes(CA.pem)
    ca.chmod(0o600)
    names = ("shop.internal", "spiffe://tidegate/shop", "shop")
    listed = [Entry(name="shop", scopes=("infer:scaled",), certificate=name) for name in names]
    tokens = put_tokens(folder / "tokens.toml", [*token_entries(), *listed])
    files = {"tls-cert": str(certificate), "tls-key": str(key), "tls-client-ca": str(ca), "tokens": str(tokens)}
    with daemon(folder, {"registry": str(filled[1]), **files}) as running, channel_to(running.address, client=CLIENTS["name"]) as channel:
        wait_until(lambda: call(channel, INFER, SCALED) is OK, "nothing is served")
        yield running.address


@pytest.mark.parametrize("kind", ["dns", "uri", "name"])
def test_a_client_certificate_says_who_calls(mutual: str, kind: str) -> None:
    with channel_to(mutual, client=CLIENTS[kind]) as channel:
        assert call(channel, INFER, SCALED) is OK
        assert call(channel, STREAM, SCALED) is OK
        assert call(channel, INFER, LOOKUP) is DENIED
        assert call(channel, f"{INFERENCE}/ModelMetadata", pb.ModelMetadataRequest(name="scaled").SerializeToString()) is DENIED


@pytest.mark.parametrize("kind", ["hidden", "stranger", "name to a zero byte", "dns to a zero byte", "uri to a zero byte"])
def test_a_certificate_that_is_not_listed_may_nothing_but_what_is_open(mutual: str, kind: str) -> None:
    with channel_to(mutual, client=CLIENTS[kind]) as channel:
        assert call(channel, INFER, SCALED) is DENIED
        assert call(channel, f"{INFERENCE}/ServerReady") is OK


def test_a_token_counts_before_the_certificate(mutual: str) -> None:
    with channel_to(mutual, client=CLIENTS["name"]) as channel:
        assert call(channel, INFER, LOOKUP, "everything") is OK
        assert call(channel, INFER, SCALED, "nothing") is DENIED
        assert call(channel, INFER, SCALED, "unknown") is UNAUTHENTICATED


@pytest.mark.parametrize(
    ("ca", "client"),
    [(CA, None), (OTHER_CA, CLIENTS["name"]), (CA, issued(OTHER_CA, "shop"))],
    ids=["no certificate", "an authority that the client does not know", "an authority that the daemon does not know"],
)
def test_a_handshake_that_does_not_hold_reaches_no_call(mutual: str, ca: Certificate, client: Certificate | None) -> None:
    with channel_to(mutual, ca, client) as channel:
        for path in (INFER, f"{INFERENCE}/ServerLive"):
            assert call(channel, path, SCALED if path == INFER else b"", "everything") is grpc.StatusCode.UNAVAILABLE


def test_who_does_not_speak_tls_is_not_answered(mutual: str) -> None:
    with grpc.insecure_channel(mutual, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        assert call(channel, f"{INFERENCE}/ServerLive") is grpc.StatusCode.UNAVAILABLE


def handshake(address: str, version: ssl.TLSVersion) -> str | None:
    """The version of TLS agreed on; the certificate is not looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # else it is this end that refuses what is old
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")

    with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain) as secure:
        return secure.version()


@dataclass(frozen=True)
class Renewed:
    """A daemon with TLS and tokens whose files a test replaces."""

    address: str
    folder: Path
    log: Path


@pytest.fixture
def renewed(filled: tuple[Registry, Path], tmp_path: Path) -> Iterator[Renewed]:
    certificate, key = SERVER.write(tmp_path, "tls")
    tokens = put_tokens(tmp_path / "tokens.toml", token_entries())
    files = {"tls-cert": str(certificate), "tls-key": str(key), "tokens": str(tokens)}
    with daemon(tmp_path, {"registry": str(filled[1]), **files}) as running, channel_to(running.address) as channel:
        wait_until(lambda: call(channel, INFER, SCALED, "everything") is OK, "nothing is served")
        yield Renewed(running.address, tmp_path, running.program.log)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_nothing_below_tls_1_2_is_spoken(renewed: Renewed) -> None:
    assert handshake(renewed.address, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert handshake(renewed.address, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(renewed.address, old)


def reached(address: str, ca: Certificate) -> bool:
    with channel_to(address, ca) as channel:
        return call(channel, f"{INFERENCE}/ServerLive") is OK


def test_certificates_are_renewed_under_load_without_a_failed_request(renewed: Renewed) -> None:
    codes: list[grpc.StatusCode] = []
    stopped = threading.Event()

    def send(channel: grpc.Channel) -> None:
        while not stopped.is_set():
            codes.append(call(channel, INFER, SCALED, "everything"))

    with channel_to(renewed.address) as channel:
        sender = threading.Thread(target=send, args=(channel,))
        sender.start()
        try:
            issued(OTHER_CA, "daemon", LOCAL).write(renewed.folder, "tls")
            wait_until(lambda: reached(renewed.address, OTHER_CA), "the new certificate is not shown", 10)
            assert not reached(renewed.address, CA)
            # A pair that does not belong together, and one that does not parse: the last good one stays.
            for bad in (CA.pem, b"-----BEGIN CERTIFICATE-----\nnonsense"):
                renewed.log.write_text("")
                (renewed.folder / "tls.pem").write_bytes(bad)
                wait_until(lambda: "not usable" in renewed.log.read_text(), "the bad certificate is not told of", 10)
                assert reached(renewed.address, OTHER_CA)
            SERVER.write(renewed.folder, "tls")
            wait_until(lambda: reached(renewed.address, CA), "the mended certificate is not shown", 10)
        finally:
            stopped.set()
            sender.join()
    assert len(codes) > 20
    assert set(codes) == {OK}


def test_authorities_of_clients_are_renewed_too(filled: tuple[Registry, Path], tmp_path: Path) -> None:
    certificate, key = SERVER.write(tmp_path, "tls")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CA.pem)
    tokens = put_tokens(tmp_path / "tokens.toml", token_entries())
    for path in (ca, tokens):
        path.chmod(0o600)
    files = {"tls-cert": str(certificate), "tls-key": str(key), "tls-client-ca": str(ca), "tokens": str(tokens)}

    def taken(client: Certificate, address: str) -> bool:
        with channel_to(address, client=client) as channel:
            return call(channel, f"{INFERENCE}/ServerLive") is OK

    old, new = CLIENTS["name"], issued(OTHER_CA, "shop")
    with daemon(tmp_path, {"registry": str(filled[1]), **files}) as running:
        assert taken(old, running.address)
        assert not taken(new, running.address)
        ca.write_bytes(OTHER_CA.pem)
        wait_until(lambda: taken(new, running.address), "the new authority is not taken", 10)
        assert not taken(old, running.address)


def test_a_name_that_is_listed_no_more_may_nothing_on_connections_that_are_open(filled: tuple[Registry, Path], tmp_path: Path) -> None:
    certificate, key = SERVER.write(tmp_path, "tls")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CA.pem)
    ca.chmod(0o600)
    tokens = put_tokens(tmp_path / "tokens.toml", [Entry(name="shop", scopes=("infer",), certificate="shop")])
    files = {"tls-cert": str(certificate), "tls-key": str(key), "tls-client-ca": str(ca), "tokens": str(tokens)}
    with (
        daemon(tmp_path, {"registry": str(filled[1]), **files}) as running,
        channel_to(running.address, client=CLIENTS["name"]) as channel,
    ):
        wait_until(lambda: call(channel, INFER, SCALED) is OK, "nothing is served")
        put_tokens(tokens, [Entry(name="shop", scopes=("infer:lookup",), certificate="shop")])
        wait_until(lambda: call(channel, INFER, SCALED) is DENIED, "a scope of a certificate goes on", 5)
        assert call(channel, INFER, LOOKUP) is OK
        put_tokens(tokens, token_entries())
        wait_until(lambda: call(channel, INFER, LOOKUP) is DENIED, "a name that is gone goes on", 5)
