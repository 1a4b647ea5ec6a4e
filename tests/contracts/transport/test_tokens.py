"""Who may call a running daemon by which token: every RPC, every kind of token, and what comes in its place."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import jwt
import pytest

from registry.registry import Registry
from server.access import RULES, Need, digest_of
from server.tokens import Entry
from tests.contracts.transport.credentials import (
    DENIED,
    INFER,
    INFERENCE,
    LOOKUP,
    NOBODYS,
    OK,
    RPCS,
    SCALED,
    STREAM,
    UNAUTHENTICATED,
    Guarded,
    call,
    first,
    guarded_daemon,
    signed,
    token_entries,
)
from tidegate_protos import inference_pb2 as pb


@pytest.fixture(scope="module")
def guarded(filled: tuple[Registry, Path], tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Guarded]:
    expired = Entry.model_validate({"name": "past", "scopes": ["*"], "sha256": digest_of("past"), "expires": "2020-01-01T00:00:00Z"})
    slow = [Entry(name="slow", scopes=("*",), sha256=digest_of(token), rate=0.001, burst=2) for token in ("slow", "slow too")]
    with guarded_daemon(tmp_path_factory.mktemp(f"guarded-{transport}"), filled[1], [*token_entries(), expired, *slow]) as started:
        yield started


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
    assert call(guarded.channel, path, NOBODYS, "scaled-only") is DENIED
    assert call(guarded.channel, path, NOBODYS, "everything") is grpc.StatusCode.NOT_FOUND


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
        first(guarded.channel, INFER, SCALED, tuple(("authorization", value) for value in values))
    assert caught.value.code() is UNAUTHENTICATED


def test_the_scheme_is_read_in_any_case(guarded: Guarded) -> None:
    assert first(guarded.channel, INFER, SCALED, (("authorization", "bEARER everything"),))


def test_a_key_that_only_looks_like_it_is_no_authorization(guarded: Guarded) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        first(guarded.channel, INFER, SCALED, (("authorization-bin", b"Bearer everything"), ("x-authorization", "Bearer everything")))
    assert caught.value.code() is UNAUTHENTICATED


def test_who_is_not_known_does_not_learn_what_is_wrong_with_a_message(guarded: Guarded) -> None:
    for token in (None, "unknown", signed(aud="other")):
        assert call(guarded.channel, INFER, b"\xff", token) is UNAUTHENTICATED
    assert call(guarded.channel, INFER, b"\xff", "nothing") is grpc.StatusCode.INVALID_ARGUMENT


def test_a_principal_has_its_own_rate_over_all_of_its_tokens(guarded: Guarded) -> None:
    codes = [call(guarded.channel, INFER, SCALED, token) for token in ("slow", "slow too", "slow", "slow too")]
    assert codes == [OK, OK, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.RESOURCE_EXHAUSTED]
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


def test_callers_on_one_connection_are_told_apart_however_they_alternate(guarded: Guarded) -> None:
    scaled, lookup = signed(sub="a", scope="infer:scaled"), signed(sub="b", scope="infer:lo?k*")
    expected = {
        scaled: [OK, DENIED],
        lookup: [DENIED, OK],
        "everything": [OK, OK],
        "scaled-only": [OK, DENIED],
        "unknown": [UNAUTHENTICATED] * 2,
    }
    for _ in range(10):
        for token, codes in expected.items():
            assert [call(guarded.channel, INFER, message, token) for message in (SCALED, LOOKUP)] == codes


def test_a_multitude_of_signed_tokens_is_told_apart(guarded: Guarded) -> None:
    scopes = [("infer:scaled", OK), ("infer:lookup", DENIED), ("read", DENIED)]
    tokens = [(signed(sub=f"app-{number}", scope=scopes[number % 3][0]), scopes[number % 3][1]) for number in range(300)]
    for token, expected in [*tokens, *tokens[::-1]]:
        assert call(guarded.channel, INFER, SCALED, token) is expected
