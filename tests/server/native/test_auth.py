"""What the native transport knows of callers by itself, and how it asks Python about others: once, one at a time, never in the way."""

import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.access import Access, Credential, Grant, Need, Principal
from server.native.credentials import Holder, holder, listed
from server.settings import Settings
from server.transports import native_is_installed
from tests.daemons import wait_until
from tidegate_protos import inference_pb2 as pb

pytestmark = pytest.mark.skipif(not native_is_installed(), reason="the native transport is not installed; `make native` does that")

INFER = "/inference.GRPCInferenceService/ModelInfer"
REFUSED = (grpc.StatusCode.UNAUTHENTICATED.value[0], "UNAUTHENTICATED", "unknown token", None)
DENIED = (grpc.StatusCode.PERMISSION_DENIED.value[0], "PERMISSION_DENIED", "not that model", None)
UNKNOWN = (grpc.StatusCode.NOT_FOUND.value[0], "MODEL_UNKNOWN", "no model is served here", None)
PLACES, ON_ONE_CONNECTION = 1024, 768
"""Calls that may wait for Python to say who sends them"""


def message(model: str = "churn") -> bytes:
    return pb.ModelInferRequest(model_name=model).SerializeToString()


def anything(name: str, expires: float = 1e12) -> Holder:
    return Holder(name, 0.0, 0.0, ("*",), expires)


@dataclass
class Asked:
    """The functions that Rust asks; tokens of two dots are good as long as `is_open`, and each question waits for that."""

    tokens: list[str] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)
    at_once: int = 0
    most_at_once: int = 0

    def authenticate(self, metadata: list[tuple[str, bytes]], peer: str, names: Sequence[str]) -> Holder | tuple[int, str, str, None]:
        del peer, names
        token = dict(metadata)["authorization"].decode().removeprefix("Bearer ")
        self.tokens.append(token)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.is_open.wait(20)
        self.at_once -= 1
        return anything(token) if token.count(".") == 2 else REFUSED


class Native:
    """A server of no models: whom it lets in is told that there is none."""

    def __init__(self) -> None:
        import tidegate_native  # noqa: PLC0415 -- it need not be installed

        self.asked = Asked()
        self.asked.is_open.set()
        self.server = tidegate_native.Server(
            Settings(model_dir=None, max_streams=4096),
            call=lambda *_: b"",
            explain=lambda *_: UNKNOWN,
            authenticate=self.asked.authenticate,
            permit=lambda *_: DENIED,
            admit=lambda *_: None,
            names=lambda _: (),
            observe=None,
            authenticated=True,
            process="0",
            seconds=[1.0],
            rows=[1.0],
        )
        self.address = f"127.0.0.1:{self.server.start('127.0.0.1:0', shared=False)}"

    def connect(self) -> Any:
        """A connection of its own."""
        return grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)])

    def list(self, **holders: Holder) -> None:
        """List these tokens, and no other."""
        self.server.renew_access({sha256(token.encode()).digest(): holder for token, holder in holders.items()}, {})


@pytest.fixture
def native() -> Iterator[Native]:
    started = Native()
    yield started
    started.asked.is_open.set()
    started.server.stop()


def send(channel: Any, token: str, model: str = "churn") -> Any:
    return channel.unary_unary(INFER).future(message(model), timeout=20, metadata=(("authorization", f"Bearer {token}"),))


def code(channel: Any, token: str, model: str = "churn") -> grpc.StatusCode:
    found: grpc.StatusCode = send(channel, token, model).code()
    return found


def test_python_is_asked_once_about_a_token_it_verifies(native: Native) -> None:
    with native.connect() as channel:
        for _ in range(50):
            assert code(channel, "a.b.c") is grpc.StatusCode.NOT_FOUND
            assert code(channel, "d.e.f") is grpc.StatusCode.NOT_FOUND
    assert native.asked.tokens == ["a.b.c", "d.e.f"]


def test_python_is_never_asked_about_a_token_that_is_listed(native: Native) -> None:
    native.list(shop=anything("shop"))
    with native.connect() as channel:
        assert {code(channel, "shop") for _ in range(50)} == {grpc.StatusCode.NOT_FOUND}
    assert native.asked.tokens == []


def test_python_is_asked_each_time_about_a_token_that_it_refuses(native: Native) -> None:
    with native.connect() as channel:
        assert {code(channel, "made-up") for _ in range(5)} == {grpc.StatusCode.UNAUTHENTICATED}
    assert native.asked.tokens == ["made-up"] * 5


def test_many_calls_that_come_with_a_new_token_at_once_ask_once(native: Native) -> None:
    native.asked.is_open.clear()
    with native.connect() as channel:
        calls = [send(channel, "a.b.c") for _ in range(100)]
        wait_until(lambda: native.asked.tokens != [], "nobody is asked")
        native.asked.is_open.set()
        assert {call.code() for call in calls} == {grpc.StatusCode.NOT_FOUND}
    assert native.asked.tokens == ["a.b.c"]


def test_a_verdict_that_was_asked_for_before_a_renewal_does_not_outlive_it(native: Native) -> None:
    native.asked.is_open.clear()
    with native.connect() as channel:
        call = send(channel, "a.b.c")
        wait_until(lambda: native.asked.tokens != [], "nobody is asked")
        native.list()
        native.asked.is_open.set()
        assert call.code() is grpc.StatusCode.NOT_FOUND
        assert code(channel, "a.b.c") is grpc.StatusCode.NOT_FOUND
        assert native.asked.tokens == ["a.b.c"] * 2


def test_made_up_tokens_wait_for_their_turn_in_bounded_number_and_keep_nobody_waiting_who_is_known(native: Native) -> None:
    native.list(shop=anything("shop"))
    with native.connect() as known, native.connect() as first, native.connect() as second:
        assert code(known, "verified.by.python") is grpc.StatusCode.NOT_FOUND
        native.asked.is_open.clear()
        flood = [send(channel, "made-up") for channel in (first, second) for _ in range(PLACES)]
        wait_until(lambda: sum(call.done() for call in flood) >= PLACES, "those beyond the places are not refused")
        refused = [call for call in flood if call.done()]
        assert len(refused) == PLACES
        assert {call.code() for call in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        # Python is stuck on the first of them; who is known is answered all the same.
        for token in ("shop", "verified.by.python"):
            assert {code(known, token) for _ in range(20)} == {grpc.StatusCode.NOT_FOUND}
        native.asked.is_open.set()
        assert Counter(call.code() for call in flood)[grpc.StatusCode.UNAUTHENTICATED] == PLACES
        assert code(first, "x.y.z") is grpc.StatusCode.NOT_FOUND
    assert native.asked.most_at_once == 1


def test_who_stops_waiting_gives_up_his_place(native: Native) -> None:
    native.asked.is_open.clear()
    with native.connect() as left, native.connect() as later:
        calls = [send(left, "made-up") for _ in range(ON_ONE_CONNECTION + 1)]
        wait_until(lambda: any(call.done() for call in calls), "not all places are taken")
        for call in calls:
            call.cancel()
        wait_until(lambda: native.server.counts().unrouted.get("CANCELLED") == ON_ONE_CONNECTION, "they are waited for")
        calls = [send(later, f"a.b.{number}") for number in range(ON_ONE_CONNECTION)]
        native.asked.is_open.set()
        assert {call.code() for call in calls} == {grpc.StatusCode.NOT_FOUND}
    assert native.asked.tokens.count("made-up") == 1


GLOBS = st.text("ab-.*?", min_size=1, max_size=8)
NAMES = st.one_of(st.text("ab-.", max_size=10), st.text(max_size=4), st.just("a" * 64))


@pytest.fixture(scope="module")
def judged() -> Iterator[tuple[Native, Any]]:
    started = Native()
    with started.connect() as channel:
        yield started, channel
    started.server.stop()


@given(st.lists(GLOBS, max_size=3), NAMES)
@settings(max_examples=300, deadline=None)
def test_a_right_holds_for_the_models_that_the_reference_says(judged: tuple[Native, Any], globs: list[str], model: str) -> None:
    native, channel = judged
    native.list(shop=Holder("shop", 0.0, 0.0, tuple(globs), 1e12))
    may = Principal("shop", tuple(Grant("infer", glob) for glob in globs)).may(Need.INFER, model)
    # A right that Rust does not see itself is looked for by Python, which here says no; so only names that a model can have are exact.
    is_name = (model.isascii() and 0 < len(model) < 64) or "*" in globs
    found = code(channel, "shop", model)
    assert found is (grpc.StatusCode.NOT_FOUND if may and is_name else grpc.StatusCode.PERMISSION_DENIED)


def test_what_rust_may_know_of_a_credential_is_its_rights_to_inferences() -> None:
    grants = tuple(map(Grant.parse, ("infer:churn", "read", "feedback:x", "*:fraud-*", "infer")))
    assert holder(Credential(Principal("shop", grants, 2.5), 9.0)) == Holder("shop", 2.5, 0.0, ("churn", "fraud-*", "*"), 9.0)
    access = Access(tokens={sha256(b"t").hexdigest(): Credential(Principal("a"))}, certificates={"n": Credential(Principal("b"))})
    a, b = (Holder(name, 0.0, 0.0, (), math.inf) for name in "ab")
    assert listed(access) == ({sha256(b"t").digest(): a}, {"n": b})
