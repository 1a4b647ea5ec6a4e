"""Who calls: the token goes along where it is safe, and nowhere else; TLS and client certificates."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.certificates import LOCAL, authority, issued
from tests.clients.python.conftest import Twin
from tidegate_client import AccessError, InputError, UnavailableError, tls_credentials, token_file
from tidegate_protos import inference_pb2 as pb

TOKEN = "abc"  # noqa: S105 -- of nobody
CA = authority("test authority")


class Recorder(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers ServerLive, and keeps the metadata and the certificate of every call."""

    def __init__(self) -> None:
        self.authorizations: list[list[str]] = []
        self.names: list[bytes] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        del handler_call_details

        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            self.authorizations.append([str(value) for key, value in context.invocation_metadata() if key == "authorization"])
            self.names.extend(context.auth_context().get("x509_common_name", ()))  # type: ignore[arg-type]
            return pb.ServerLiveResponse(live=True).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def server(recorder: Recorder) -> Any:
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers([recorder])
    yield server
    server.stop(0)


@pytest.fixture
def address(server: Any) -> str:
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return f"127.0.0.1:{port}"


def test_the_token_goes_with_every_call_beside_other_metadata(kind: str, address: str, recorder: Recorder) -> None:
    with Twin(kind, address, token=TOKEN, metadata={"other": "x"}) as client:
        assert client.live()
        assert client.live()
    assert recorder.authorizations == [[f"Bearer {TOKEN}"]] * 2


def test_a_token_file_is_read_at_every_call(kind: str, address: str, recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    with Twin(kind, address, token=token_file(path)) as client:
        client.live()
        path.write_text("two\n")
        client.live()
        path.unlink()
        with pytest.raises(AccessError, match="cannot read the token"):
            client.live()
    assert recorder.authorizations == [["Bearer one"], ["Bearer two"]]


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "\u00e4"])
def test_a_token_that_cannot_be_sent_is_an_error_that_does_not_repeat_it(kind: str, address: str, token: str) -> None:
    with Twin(kind, address, token=token) as client, pytest.raises(AccessError) as caught:
        client.live()
    assert not token or token not in str(caught.value)


@pytest.mark.parametrize("target", ["models.example.org:8001", "10.0.0.1:8001", "[2001:db8::1]:8001", "dns:///models.example.org:8001"])
def test_a_token_never_leaves_the_machine_in_the_clear(kind: str, target: str) -> None:
    with pytest.raises(InputError, match="in the clear"):
        Twin(kind, target, token=TOKEN)
    with Twin(kind, target, token=TOKEN, credentials=tls_credentials()):
        pass


@pytest.mark.parametrize(
    "target", ["localhost:1", "127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "ipv4:127.0.0.1:1", "dns:///localhost:1", "unix:/x"]
)
def test_this_machine_may_have_it_in_the_clear(kind: str, target: str) -> None:
    with Twin(kind, target, token=TOKEN):
        pass


def test_tls_with_a_client_certificate(kind: str, server: Any, recorder: Recorder, tmp_path: Path) -> None:
    shown, mine = issued(CA, "server", LOCAL), issued(CA, "shop")
    certificate, key = mine.write(tmp_path, "mine")
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    wanted = grpc.ssl_server_credentials([(shown.key_pem, shown.pem)], CA.pem, require_client_auth=True)
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', wanted)}"
    server.start()
    with Twin(kind, address, credentials=tls_credentials(tmp_path / "ca.pem", certificate, key), token=TOKEN) as client:
        assert client.live()
    assert recorder.names == [b"shop"]
    assert recorder.authorizations == [[f"Bearer {TOKEN}"]]
    (tmp_path / "other.pem").write_bytes(authority("another").pem)
    with Twin(kind, address, credentials=tls_credentials(tmp_path / "other.pem", certificate, key), max_retries=0) as client:
        with pytest.raises(UnavailableError):
            client.server_metadata()
        assert not client.live()


def test_a_certificate_for_localhost_holds_for_a_unix_socket(kind: str, server: Any, tmp_path: Path) -> None:
    shown = issued(CA, "server", LOCAL)
    (tmp_path / "ca.pem").write_bytes(CA.pem)
    server.add_secure_port(f"unix:{tmp_path}/server.sock", grpc.ssl_server_credentials([(shown.key_pem, shown.pem)]))
    server.start()
    with Twin(kind, f"unix:{tmp_path}/server.sock", credentials=tls_credentials(tmp_path / "ca.pem")) as client:
        assert client.live()


def test_files_that_are_absent_or_half_given_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent"):
        tls_credentials(tmp_path / "absent")
    with pytest.raises(InputError, match="go together"):
        tls_credentials(certificate=tmp_path / "c")
