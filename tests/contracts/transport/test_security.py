"""Who may call a running daemon, by which credentials: every RPC, every kind of token and certificate, and files that change under load."""

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import jwt
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection_pb2

from registry.registry import Registry
from server.access import RULES, Need, digest_of
from server.tokens import Entry, entry_text
from tests.certificates import LOCAL, Certificate, authority, issued
from tests.contracts.transport.calls import raw_request, reason
from tests.daemons import daemon, wait_until
from tests.rpcs import rpcs
from tidegate_protos import inference_pb2 as pb

ROW = {"numeric": np.array([[1, 2, 3]], np.float32)}
INFERENCE = "/inference.GRPCInferenceService"
INFER, STREAM = f"{INFERENCE}/ModelInfer", f"{INFERENCE}/ModelStreamInfer"
ISSUER, AUDIENCE = "https://login.example.org/", "tidegate"
KEY = Ed25519PrivateKey.generate()
CODES = {code.name: code for code in grpc.StatusCode}
OK = grpc.StatusCode.OK
UNAUTHENTICATED, DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED
RPCS = dict(rpcs())
SCALED = raw_request("scaled", ROW).SerializeToString()
LOOKUP = raw_request("lookup", {"index": np.array([1])}).SerializeToString()
TOKENS = {  # name, which is the token too, and scopes
    "everything": ("*",),
    "nothing": (),
    "inferrer": ("infer",),
    "reader": ("read",),
    "feeder": ("feedback",),
    "scaled-only": ("infer:scal*", "read:scaled"),
}


def token_entries() -> list[Entry]:
    return [Entry(name=name, scopes=scopes, sha256=digest_of(name)) for name, scopes in TOKENS.items()]


def put_tokens(path: Path, entries: list[Entry]) -> Path:
    new = path.with_suffix(".new")
    new.write_text("\n".join(map(entry_text, entries)))
    new.chmod(0o600)
    return new.replace(path)


def call(channel: grpc.Channel, path: str, data: bytes = b"", token: str | None = None) -> grpc.StatusCode:
    """The status that one message to an RPC of any kind gets; in a stream of inferences it stands in the answer."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    try:
        answer = _first(channel, path, RPCS[path], data, metadata)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        if code in {UNAUTHENTICATED, DENIED}:
            assert reason(error) == code.name
        return code
    refusal = pb.ModelStreamInferResponse.FromString(answer).error_message if path == STREAM else ""
    return CODES[refusal[1 : refusal.index("]")]] if refusal else OK


def _first(channel: Any, path: str, method: MethodDescriptor, data: bytes, metadata: tuple[tuple[str, str], ...]) -> bytes:
    if method.client_streaming:
        return bytes(next(channel.stream_stream(path)(iter([data]), timeout=10, metadata=metadata)))
    if method.server_streaming:
        answers = channel.unary_stream(path)(data, timeout=10, metadata=metadata)
        first = bytes(next(answers))
        answers.cancel()
        return first
    return bytes(channel.unary_unary(path)(data, timeout=10, metadata=metadata))


@dataclass(frozen=True)
class Guarded:
    """A daemon that wants tokens, without TLS, and a channel to it."""

    channel: grpc.Channel
    log: Path
    tokens: Path


@pytest.fixture(scope="module")
def guarded(filled: tuple[Registry, Path], tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp(f"guarded-{transport}")
    key = folder / "login.pem"
    key.write_bytes(KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    key.chmod(0o600)
    expired = Entry.model_validate({"name": "past", "scopes": ["*"], "sha256": digest_of("past"), "expires": "2020-01-01T00:00:00Z"})
    slow = Entry(name="slow", scopes=("*",), sha256=digest_of("slow"), rate=0.001, burst=2)
    tokens = put_tokens(folder / "tokens.toml", [*token_entries(), expired, slow])
    flags = {"registry": str(filled[1]), "tokens": str(tokens)}
    signed = {"jwt-keys": str(key), "jwt-issuer": ISSUER, "jwt-audience": AUDIENCE}
    with daemon(folder, {**flags, **signed}) as running, grpc.insecure_channel(running.address) as channel:
        wait_until(lambda: call(channel, INFER, SCALED, "everything") is OK, "nothing is served")
        yield Guarded(channel, running.program.log, tokens)


def signed(**changes: object) -> str:
    claims = {"sub": "app", "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "scope": "infer:scaled read", **changes}
    return jwt.encode(claims, KEY, "EdDSA", {"kid": "login"})


@pytest.mark.parametrize("path", RPCS)
def test_without_a_token_only_what_is_open_is_answered(guarded: Guarded, path: str) -> None:
    open_to_all = RULES[path].need is Need.OPEN
    assert call(guarded.channel, path) is (OK if open_to_all else UNAUTHENTICATED)
    # Probes go on where somebody sends a token that is no good any more.
    assert call(guarded.channel, path, token="unknown") is (OK if open_to_all else UNAUTHENTICATED)  # noqa: S106 -- of nobody


@pytest.mark.parametrize("path", RPCS)
def test_a_token_without_scopes_is_refused_everywhere(guarded: Guarded, path: str) -> None:
    assert call(guarded.channel, path, token="nothing") is (OK if RULES[path].need is Need.OPEN else DENIED)  # noqa: S106 -- made for this


@pytest.mark.parametrize("path", RPCS)
def test_the_scope_that_the_rule_names_is_enough_and_no_other_is(guarded: Guarded, path: str) -> None:
    holders = {"inferrer": Need.INFER, "reader": Need.READ, "feeder": Need.FEEDBACK}
    need = RULES[path].need
    for token, scope in holders.items():
        refused = call(guarded.channel, path, token=token) is DENIED
        assert refused is (need is not Need.OPEN and need is not scope), token
    assert (call(guarded.channel, path, token="everything") is DENIED) is (need is Need.NOBODY)  # noqa: S106 -- made for this


@pytest.mark.parametrize("path", [INFER, STREAM])
def test_a_scope_holds_for_its_models(guarded: Guarded, path: str) -> None:
    assert call(guarded.channel, path, SCALED, "scaled-only") is OK
    assert call(guarded.channel, path, LOOKUP, "scaled-only") is DENIED
    # Who may not use a model does not learn whether it is there.
    assert call(guarded.channel, path, raw_request("nobody", ROW).SerializeToString(), "scaled-only") is DENIED
    assert call(guarded.channel, path, raw_request("nobody", ROW).SerializeToString(), "everything") is grpc.StatusCode.NOT_FOUND


def test_calls_about_all_models_need_the_scope_for_all(guarded: Guarded) -> None:
    named = pb.ModelStatisticsRequest(name="scaled").SerializeToString()
    assert call(guarded.channel, f"{INFERENCE}/ModelStatistics", named, "scaled-only") is OK
    assert call(guarded.channel, f"{INFERENCE}/ModelStatistics", b"", "scaled-only") is DENIED
    assert call(guarded.channel, f"{INFERENCE}/RepositoryIndex", b"", "scaled-only") is DENIED
    assert call(guarded.channel, f"{INFERENCE}/ServerMetadata", b"", "scaled-only") is OK


def test_every_kind_of_token(guarded: Guarded) -> None:
    assert call(guarded.channel, INFER, SCALED, signed()) is OK
    assert call(guarded.channel, INFER, SCALED, signed()) is OK  # as it is remembered
    assert call(guarded.channel, INFER, LOOKUP, signed()) is DENIED
    refused = {
        "past": "a listed token that expired",
        signed(exp=int(time.time()) - 60): "a signed token that expired",
        signed(aud="other"): "a signed token for others",
        jwt.encode({"sub": "app"}, "x" * 32, "HS256", {"kid": "login"}): "a token signed with a shared secret",
        f"{signed()}x": "a signature that is not its own",
        digest_of("everything"): "the hash that stands in the file",
        "everything ": "spaces",
        "e" * 12_000: "a long one",
        "": "none",
    }
    for token, what in refused.items():
        expected = OK if what == "spaces" else UNAUTHENTICATED
        assert call(guarded.channel, INFER, SCALED, token) is expected, what


@pytest.mark.parametrize(
    "values",
    [["everything"], ["Basic everything"], ["Bearer"], ["Bearer everything", "Bearer everything"], ["Bearer nothing", "Bearer everything"]],
)
def test_what_is_no_single_bearer_token_is_refused(guarded: Guarded, values: list[str]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        _first(guarded.channel, INFER, RPCS[INFER], SCALED, tuple(("authorization", value) for value in values))
    assert caught.value.code() is UNAUTHENTICATED


def test_the_scheme_is_read_in_any_case(guarded: Guarded) -> None:
    assert _first(guarded.channel, INFER, RPCS[INFER], SCALED, (("authorization", "bEARER everything"),))


def test_a_principal_has_its_own_rate(guarded: Guarded) -> None:
    assert [call(guarded.channel, INFER, SCALED, "slow") for _ in range(3)] == [OK, OK, grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert call(guarded.channel, INFER, SCALED, "everything") is OK


def test_the_log_tells_of_refusals_and_never_a_token(guarded: Guarded) -> None:
    tokens = [signed(aud="other"), signed(), "wrong-token", "everything"]
    for token in tokens:
        call(guarded.channel, INFER, LOOKUP, token)
    log = guarded.log.read_text()
    assert "call refused" in log
    assert log.count("call refused") < 20
    for token in tokens:
        assert token not in log


def test_a_revoked_token_ends_on_connections_that_are_open(guarded: Guarded) -> None:
    extra = Entry(name="guest", scopes=("infer",), sha256=digest_of("guest"))
    assert call(guarded.channel, INFER, SCALED, "guest") is UNAUTHENTICATED
    before = guarded.tokens.read_text()
    put_tokens(guarded.tokens, [*token_entries(), extra])
    wait_until(lambda: call(guarded.channel, INFER, SCALED, "guest") is OK, "a new token is not taken", 5)
    guarded.tokens.write_text("[[principal")
    wait_until(lambda: "is not TOML" in guarded.log.read_text(), "a broken file is not told of", 5)
    assert call(guarded.channel, INFER, SCALED, "guest") is OK
    guarded.tokens.write_text(before)
    wait_until(lambda: call(guarded.channel, INFER, SCALED, "guest") is UNAUTHENTICATED, "a revoked token goes on", 5)


REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SERVICES = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()


@pytest.mark.parametrize(
    ("path", "data", "refused"),
    [
        (STREAM, SCALED, lambda answer: "[UNAUTHENTICATED]" in pb.ModelStreamInferResponse.FromString(answer).error_message),
        (REFLECTION, SERVICES, lambda answer: reflection_pb2.ServerReflectionResponse.FromString(answer).error_response.error_code == 16),
    ],
    ids=["inferences", "reflection"],
)
def test_a_revoked_token_ends_in_streams_that_are_open(guarded: Guarded, path: str, data: bytes, refused: Callable[[bytes], bool]) -> None:
    before = guarded.tokens.read_text()
    put_tokens(guarded.tokens, [*token_entries(), Entry(name="guest", scopes=("*",), sha256=digest_of("guest"))])
    wait_until(lambda: call(guarded.channel, INFER, SCALED, "guest") is OK, "a new token is not taken", 5)
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    channel: Any = guarded.channel
    answers = channel.stream_stream(path)(iter(requests.get, None), timeout=20, metadata=(("authorization", "Bearer guest"),))

    def answer() -> bytes:
        requests.put(data)
        return bytes(next(answers))

    assert not refused(answer())
    guarded.tokens.write_text(before)
    wait_until(lambda: refused(answer()), "a revoked token goes on", 5)
    requests.put(None)
    assert list(answers) == []


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
