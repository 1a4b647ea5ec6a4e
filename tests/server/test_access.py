"""Who may call what: every RPC has a rule, and what has none is denied."""

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.access import ANYBODY, OPEN_ACCESS, RULES, SCOPES, Access, Credential, Grant, Need, Principal, digest_of
from server.errors import InputMismatchError, PermissionDeniedError, UnauthenticatedError
from server.named_model import named_model
from tests.rpcs import services
from tidegate_protos import inference_pb2, monitoring_pb2

INFERENCE = "/inference.GRPCInferenceService"
INFER, METADATA = f"{INFERENCE}/ModelInfer", f"{INFERENCE}/ModelMetadata"
NOW = 1_700_000_000.0
MODELS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)
GRANTS = st.builds(Grant, st.sampled_from([*SCOPES, "*"]), st.text(string.ascii_letters + string.digits + "._-*?", min_size=1, max_size=63))


def test_every_rpc_in_the_descriptors_has_a_rule() -> None:
    paths = {f"/{service.full_name}/{method.name}" for service in services() for method in service.methods}
    assert len(paths) > 8
    assert paths - RULES.keys() == set()


def test_the_field_of_a_rule_is_a_text_of_the_request_it_is_for() -> None:
    checked = 0
    for service in services():
        for method in service.methods:
            field = RULES[f"/{service.full_name}/{method.name}"].model_field
            if field is not None:
                found = method.input_type.fields_by_name[field]
                assert found.type == found.TYPE_STRING
                assert not found.is_repeated
                checked += 1
    assert checked >= 4


def test_a_request_that_names_a_model_has_a_rule_that_reads_it() -> None:
    unread = []
    for service in services():
        for method in service.methods:
            rule = RULES[f"/{service.full_name}/{method.name}"]
            named = {"model", "model_name"} & set(method.input_type.fields_by_name)
            if named and rule.need in SCOPES and rule.model_field not in named:
                unread.append(method.full_name)
    assert unread == []


@pytest.mark.parametrize("path", ["", "/", "/inference.GRPCInferenceService/ModelDelete", "/inference.grpcinferenceservice/serverlive"])
@pytest.mark.parametrize("access", [Access(), OPEN_ACCESS], ids=["required", "open"])
def test_a_path_without_a_rule_is_denied_to_everybody(path: str, access: Access) -> None:
    with pytest.raises(PermissionDeniedError):
        access.check(ANYBODY, path, None)


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_nobody_loads_or_unloads(method: str) -> None:
    with pytest.raises(PermissionDeniedError, match="registry decides"):
        OPEN_ACCESS.check(ANYBODY, f"{INFERENCE}/{method}", "churn")


@pytest.mark.parametrize(
    ("grants", "path", "model", "allowed"),
    [
        (["infer"], INFER, "churn", True),
        (["infer:churn"], INFER, "churn", True),
        (["infer:churn"], INFER, "churns", False),
        (["infer:churn"], INFER, "CHURN", False),
        (["infer:churn"], INFER, "", False),
        (["infer:fraud-*"], INFER, "fraud-eu", True),
        (["infer:fraud-*"], INFER, "churn", False),
        (["infer:fraud-*", "infer:churn"], INFER, "churn", True),
        (["infer:fraud-?"], INFER, "fraud-eu", False),
        (["read"], INFER, "churn", False),
        (["infer"], METADATA, "churn", False),
        (["*"], METADATA, "churn", True),
        (["*:churn"], METADATA, "churn", True),
        (["*:churn"], METADATA, "fraud", False),
        ([], INFER, "churn", False),
        (["read:churn"], f"{INFERENCE}/ServerMetadata", None, True),
        (["infer"], f"{INFERENCE}/ServerMetadata", None, False),
        (["read:churn"], f"{INFERENCE}/RepositoryIndex", "", False),
        (["read:?*"], f"{INFERENCE}/RepositoryIndex", "", False),
        (["read"], f"{INFERENCE}/RepositoryIndex", "", True),
        ([], f"{INFERENCE}/ServerLive", None, True),
        ([], "/grpc.health.v1.Health/Check", None, True),
    ],
)
def test_scopes_hold_for_their_calls_on_their_models(grants: list[str], path: str, model: str | None, allowed: bool) -> None:  # noqa: FBT001
    principal = Principal("shop", tuple(map(Grant.parse, grants)))
    if allowed:
        Access().check(principal, path, model)
        return
    with pytest.raises(PermissionDeniedError, match="'shop' does not have the scope"):
        Access().check(principal, path, model)


@given(MODELS)
def test_the_name_of_a_model_as_a_glob_is_that_model_alone(model: str) -> None:
    assert Grant.parse(f"infer:{model}").allows(Need.INFER, model)
    assert not Grant.parse(f"infer:{model}").allows(Need.INFER, model + "0")


@given(GRANTS)
def test_a_grant_reads_back_as_it_was_written(grant: Grant) -> None:
    assert Grant.parse(str(grant)) == grant


@pytest.mark.parametrize(
    "text", ["", "write", "infer:", "infer:a b", "infer:a/b", "infer:[a-z]", "infer:churn\n", "INFER", "open", "nobody", " infer"]
)
def test_what_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no scope"):
        Grant.parse(text)


def test_without_authentication_whoever_calls_is_anybody() -> None:
    assert OPEN_ACCESS.credential(None, (), NOW).principal is ANYBODY
    assert OPEN_ACCESS.credential("whatever", (), NOW).principal is ANYBODY


SHOP = Principal("shop", (Grant("infer"),), 100.0, 200.0)


def test_a_token_stands_for_its_principal_until_it_expires() -> None:
    access = Access(tokens={digest_of("secret"): Credential(SHOP, NOW)})
    assert access.credential("secret", (), NOW - 1).principal is SHOP
    with pytest.raises(UnauthenticatedError, match=r"^token expired$"):
        access.credential("secret", (), NOW)


@pytest.mark.parametrize("token", ["", "secre", "secret ", "Secret", "a.b.c", "\udcff", "x" * 100_000])
def test_an_unknown_token_is_refused_with_the_same_words_whatever_it_is(token: str) -> None:
    access = Access(tokens={digest_of("secret"): Credential(SHOP)})
    with pytest.raises(UnauthenticatedError, match=r"^unknown token$"):
        access.credential(token, (), NOW)


def test_a_call_without_credentials_is_told_what_to_send() -> None:
    with pytest.raises(UnauthenticatedError, match="authorization: Bearer"):
        Access().credential(None, (), NOW)


def test_the_first_name_of_a_certificate_that_is_listed_counts() -> None:
    access = Access(certificates={"shop.internal": Credential(SHOP)})
    assert access.credential(None, ("spiffe://else/where", "shop.internal"), NOW).principal is SHOP


def test_a_certificate_that_is_not_listed_is_somebody_without_rights() -> None:
    stranger = Access(certificates={"shop.internal": Credential(SHOP)}).credential(None, ("other.internal",), NOW).principal
    assert stranger == Principal("other.internal")
    with pytest.raises(PermissionDeniedError):
        Access().check(stranger, INFER, "churn")


def test_an_expired_certificate_entry_is_refused() -> None:
    with pytest.raises(UnauthenticatedError, match="certificate expired"):
        Access(certificates={"a": Credential(SHOP, math.nextafter(NOW, 0))}).credential(None, ("a",), NOW)


def test_a_bad_token_is_not_made_good_by_a_certificate() -> None:
    access = Access(certificates={"shop.internal": Credential(SHOP)})
    with pytest.raises(UnauthenticatedError):
        access.credential("wrong", ("shop.internal",), NOW)


def test_what_is_said_of_long_names_is_short() -> None:
    with pytest.raises(PermissionDeniedError) as refused:
        Access().check(Principal("n" * 10_000), INFER, "m" * 10_000)
    assert len(str(refused.value)) < 300


def test_the_model_is_read_from_the_request_by_the_rule() -> None:
    request = inference_pb2.ModelMetadataRequest(name="churn").SerializeToString()
    assert named_model(METADATA, request) == "churn"
    assert (
        named_model("/tidegate.v1.MonitoringService/GetDrift", monitoring_pb2.GetDriftRequest(model="churn").SerializeToString()) == "churn"
    )
    assert named_model(f"{INFERENCE}/RepositoryIndex", b"") == ""
    assert named_model(f"{INFERENCE}/ServerMetadata", b"") is None
    assert named_model("/no/rule", b"\xff") is None
    with pytest.raises(InputMismatchError, match="ModelMetadataRequest"):
        named_model(METADATA, b"\xff\xff")


def test_the_model_of_every_call_that_names_one_can_be_read() -> None:
    paths = [f"/{service.full_name}/{method.name}" for service in services() for method in service.methods]
    assert [named_model(path, b"") for path in paths if RULES[path].model_field] == [""] * sum(
        bool(RULES[path].model_field) for path in paths
    )
