"""Tokens of the callers in these tests, and calls of every RPC with one. No test lives here."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import jwt
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from server.access import digest_of
from server.tokens import Entry, entry_text
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
NOBODYS = raw_request("nobody", ROW).SerializeToString()
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
    """What a token file says of `TOKENS`."""
    return [Entry(name=name, scopes=scopes, sha256=digest_of(name)) for name, scopes in TOKENS.items()]


def put_tokens(path: Path, entries: list[Entry]) -> Path:
    """Replace a token file, as one change."""
    new = path.with_suffix(".new")
    new.write_text("\n".join(map(entry_text, entries)))
    new.chmod(0o600)
    return new.replace(path)


def call(channel: grpc.Channel, path: str, data: bytes = b"", token: str | None = None) -> grpc.StatusCode:
    """The status that one message to an RPC of any kind gets; in a stream of inferences it stands in the answer."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    try:
        answer = first(channel, path, data, metadata)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        if code in {UNAUTHENTICATED, DENIED}:
            assert reason(error) == code.name
        return code
    refusal = pb.ModelStreamInferResponse.FromString(answer).error_message if path == STREAM else ""
    return CODES[refusal[1 : refusal.index("]")]] if refusal else OK


def first(channel: Any, path: str, data: bytes, metadata: tuple[tuple[str, str | bytes], ...]) -> bytes:
    """The first answer that one message to an RPC of any kind gets, with this metadata."""
    method = RPCS[path]
    if method.client_streaming:
        return bytes(next(channel.stream_stream(path)(iter([data]), timeout=10, metadata=metadata)))
    if method.server_streaming:
        answers = channel.unary_stream(path)(data, timeout=10, metadata=metadata)
        first = bytes(next(answers))
        answers.cancel()
        return first
    return bytes(channel.unary_unary(path)(data, timeout=10, metadata=metadata))


def signed(key: Ed25519PrivateKey = KEY, kid: str = "login", **changes: object) -> str:
    """A JSON Web Token that the daemon takes, but for what is changed."""
    claims = {"sub": "app", "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "scope": "infer:scaled read", **changes}
    return jwt.encode(claims, key, "EdDSA", {"kid": kid})


def put_key(folder: Path, kid: str, key: Ed25519PrivateKey = KEY) -> None:
    """Let the daemon take tokens that are signed with this key."""
    new = folder / f"{kid}.new"
    new.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    new.chmod(0o600)
    new.replace(folder / f"{kid}.pem")


@dataclass(frozen=True)
class Guarded:
    """A daemon that wants tokens, without TLS, a channel to it, and the files it looks after."""

    channel: grpc.Channel
    log: Path
    tokens: Path
    keys: Path


@contextlib.contextmanager
def guarded_daemon(folder: Path, registry: Path, entries: list[Entry]) -> Iterator[Guarded]:
    """A daemon that takes the tokens of these entries, one of which is `everything`, and those that `KEY` has signed."""
    keys = folder / "keys"
    keys.mkdir()
    put_key(keys, "login")
    tokens = put_tokens(folder / "tokens.toml", entries)
    flags = {"registry": str(registry), "tokens": str(tokens)}
    with_keys = {"jwt-keys": str(keys), "jwt-issuer": ISSUER, "jwt-audience": AUDIENCE}
    with daemon(folder, {**flags, **with_keys}) as running, grpc.insecure_channel(running.address) as channel:
        # Until all is loaded, a model that is not there may come yet.
        wait_until(lambda: call(channel, INFER, NOBODYS, "everything") is grpc.StatusCode.NOT_FOUND, "not all is served")
        yield Guarded(channel, running.program.log, tokens, keys)
