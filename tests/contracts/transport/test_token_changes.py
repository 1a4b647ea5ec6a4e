"""Tokens that were taken and are no more: they expire, are revoked, lose a right, or their key does; on connections that stay open."""

import queue
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from grpc_reflection.v1alpha import reflection_pb2

from registry.registry import Registry
from server.access import digest_of
from server.jwt_tokens import LEEWAY_SECONDS
from server.tokens import Entry
from tests.contracts.transport.credentials import (
    DENIED,
    INFER,
    LOOKUP,
    OK,
    SCALED,
    STREAM,
    UNAUTHENTICATED,
    Guarded,
    call,
    guarded_daemon,
    put_key,
    put_tokens,
    signed,
    token_entries,
)
from tests.daemons import wait_until
from tidegate_protos import inference_pb2 as pb


@pytest.fixture(scope="module")
def guarded(filled: tuple[Registry, Path], tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Guarded]:
    with guarded_daemon(tmp_path_factory.mktemp(f"changing-{transport}"), filled[1], token_entries()) as started:
        yield started


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


def guest(*scopes: str, expires: datetime | None = None) -> Entry:
    return Entry(name="guest", scopes=scopes, sha256=digest_of("guest"), expires=expires)


def test_a_scope_that_changes_takes_effect_on_connections_that_are_open(guarded: Guarded) -> None:
    before = guarded.tokens.read_text()
    put_tokens(guarded.tokens, [*token_entries(), guest("infer:lookup")])
    wait_until(lambda: call(guarded.channel, INFER, LOOKUP, "guest") is OK, "a new token is not taken", 5)
    assert call(guarded.channel, INFER, SCALED, "guest") is DENIED
    put_tokens(guarded.tokens, [*token_entries(), guest("infer:sc?led", "read")])
    wait_until(lambda: call(guarded.channel, INFER, SCALED, "guest") is OK, "a new scope is not taken", 5)
    assert call(guarded.channel, INFER, LOOKUP, "guest") is DENIED
    guarded.tokens.write_text(before)
    wait_until(lambda: call(guarded.channel, INFER, SCALED, "guest") is UNAUTHENTICATED, "a revoked token goes on", 5)


def taken_until(guarded: Guarded, token: str, expires: float) -> None:
    """Check that a token is taken by every call before that time and refused to every call after it, and that there were some of both."""
    seen = set()
    while time.time() < expires + 0.5:
        began = time.time()
        code = call(guarded.channel, INFER, SCALED, token)
        if time.time() < expires:
            assert code is OK
        elif began >= expires:
            assert code is UNAUTHENTICATED
        seen.add(code)
    assert seen == {OK, UNAUTHENTICATED}


def test_a_signed_token_is_taken_until_it_expires_and_not_longer(guarded: Guarded) -> None:
    exp = int(time.time()) - LEEWAY_SECONDS + 2
    taken_until(guarded, signed(exp=exp), exp + LEEWAY_SECONDS)


def test_a_listed_token_is_taken_until_it_expires_and_not_longer(guarded: Guarded) -> None:
    expires = datetime.fromtimestamp(int(time.time()) + 5, UTC)
    put_tokens(guarded.tokens, [*token_entries(), guest("infer", expires=expires)])
    wait_until(lambda: call(guarded.channel, INFER, SCALED, "guest") is OK, "a new token is not taken", 4)
    taken_until(guarded, "guest", expires.timestamp())


def test_a_key_that_is_taken_away_takes_its_tokens_with_it(guarded: Guarded) -> None:
    new = Ed25519PrivateKey.generate()
    old_token, new_token = signed(), signed(new, "next")
    assert call(guarded.channel, INFER, SCALED, old_token) is OK
    assert call(guarded.channel, INFER, SCALED, new_token) is UNAUTHENTICATED
    put_key(guarded.keys, "next", new)
    wait_until(lambda: call(guarded.channel, INFER, SCALED, new_token) is OK, "a new key is not taken", 5)
    assert call(guarded.channel, INFER, SCALED, old_token) is OK
    (guarded.keys / "login.pem").unlink()
    wait_until(lambda: call(guarded.channel, INFER, SCALED, old_token) is UNAUTHENTICATED, "tokens of a key outlive it", 5)
    assert call(guarded.channel, INFER, SCALED, new_token) is OK
    put_key(guarded.keys, "login")
    wait_until(lambda: call(guarded.channel, INFER, SCALED, old_token) is OK, "a key does not come back", 5)
