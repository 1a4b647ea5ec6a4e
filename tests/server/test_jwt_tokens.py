"""JSON Web Tokens: only what a listed key signed, for us, by the right issuer, now."""

import base64
import hmac
import json
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from server import jwt_tokens
from server.access import Grant, Principal, digest_of
from server.errors import SettingsError, UnauthenticatedError
from server.jwt_keys import read_keys
from server.jwt_tokens import LEEWAY_SECONDS, MAX_TOKEN_BYTES, JwtVerifier

ISSUER, AUDIENCE = "https://login.example.org/", "tidegate"
RSA = rsa.generate_private_key(65537, 2048)
EC256, EC384 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
KEYS: dict[str, Any] = {"rsa": RSA, "ec256": EC256, "ec384": EC384, "ed": ED25519}


def public_pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for kid, key in KEYS.items():
        write(folder / f"{kid}.pem", public_pem(key))
    return folder


@pytest.fixture
def verifier(folder: Path) -> JwtVerifier:
    return JwtVerifier(read_keys(folder), ISSUER, AUDIENCE)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    stated = {"sub": "shop", "iss": ISSUER, "aud": AUDIENCE, "exp": now + 86_400, "scope": "openid infer:churn read", **changes}
    return {name: value for name, value in stated.items() if value is not None}


def signed(kid: str | None = "ed", algorithm: str = "EdDSA", key: Any = None, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    headers = {**({"kid": kid} if kid is not None else {}), **(headers or {})}
    return jwt.encode(claims(**changes), key or KEYS[kid or "ed"], algorithm, headers)


def verify(verifier: JwtVerifier, token: str, now: float | None = None) -> Principal:
    return verifier.verify(token, digest_of(token), time.time() if now is None else now).principal


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forged(header: dict[str, Any], signature: bytes = b"", **changes: Any) -> str:
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims(**changes)).encode())}.{b64(signature)}"


@pytest.mark.parametrize(
    ("kid", "algorithm"), [("rsa", "RS256"), ("rsa", "PS256"), ("ec256", "ES256"), ("ec384", "ES384"), ("ed", "EdDSA")]
)
def test_a_token_of_every_kind_of_key_stands_for_its_subject(kid: str, algorithm: str, verifier: JwtVerifier) -> None:
    assert verify(verifier, signed(kid, algorithm)) == Principal("shop", (Grant("infer", "churn"), Grant("read")))


def test_scopes_may_be_a_list(verifier: JwtVerifier) -> None:
    assert verify(verifier, signed(scope=None, scp=["infer", "profile"])).grants == (Grant("infer"),)


@pytest.mark.parametrize("scope", [None, "", "openid profile", [], ["write", 5, None]])
def test_a_token_without_scopes_of_ours_grants_nothing(scope: Any, verifier: JwtVerifier) -> None:
    assert verify(verifier, signed(scope=scope)).grants == ()


def test_an_audience_among_several_is_enough(verifier: JwtVerifier) -> None:
    assert verify(verifier, signed(aud=["other", AUDIENCE])).name == "shop"


NOW = int(time.time())
REFUSED = {
    "expired": (signed(exp=NOW - LEEWAY_SECONDS - 5), "token expired"),
    "not valid yet": (signed(nbf=NOW + 3600), "not valid yet"),
    "issued in the future": (signed(iat=NOW + 3600), "not valid yet"),
    "another audience": (signed(aud="other"), "unknown token"),
    "no audience": (signed(aud=None), "unknown token"),
    "another issuer": (signed(iss="https://evil.example.org/"), "unknown token"),
    "no issuer": (signed(iss=None), "unknown token"),
    "no expiry": (signed(exp=None), "unknown token"),
    "expiry that is no number": (signed(exp="tomorrow"), "unknown token"),
    "endless expiry": (signed(exp=float("inf")), "unknown token"),
    "no subject": (signed(sub=None), "unknown token"),
    "empty subject": (signed(sub=""), "unknown token"),
    "long subject": (signed(sub="x" * 129), "unknown token"),
    "subject that steers a terminal": (signed(sub="shop\x1b[2J"), "unknown token"),
    "unknown kid": (signed("absent", key=ED25519), "unknown token"),
    "no kid where there are many keys": (signed(None), "unknown token"),
    "kid of another key": (signed("ed", key=ed25519.Ed25519PrivateKey.generate()), "unknown token"),
    "algorithm of another key": (signed("rsa", key=ED25519), "unknown token"),
    "longer hash than is taken": (signed("rsa", "RS512"), "unknown token"),
    "unknown critical extension": (signed(headers={"crit": ["x"], "x": 1}), "unknown token"),
    "key from the token's own header": (
        signed("absent", key=EC256, algorithm="ES256", headers={"jwk": json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC256.public_key()))}),
        "unknown token",
    ),
    "no signature": (forged({"alg": "none", "kid": "ed"}), "unknown token"),
    "None in other letters": (forged({"alg": "NoNe", "kid": "ed"}), "unknown token"),
    "no algorithm": (forged({"kid": "ed"}), "unknown token"),
    "kid that is no text": (forged({"alg": "EdDSA", "kid": ["ed"]}), "unknown token"),
    "too long": (signed(padding="x" * MAX_TOKEN_BYTES), "longer than 8192 bytes"),
    "three dots of nothing": ("..", "unknown token"),
    "not base64": ("a!.b!.c!", "unknown token"),
    "header that is a list": (f"{b64(b'[]')}.{b64(b'{}')}.", "unknown token"),
    "deep header": (f"{b64(b'[' * 3000)}.{b64(b'{}')}.", "unknown token"),
}


@pytest.mark.parametrize(("token", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_valid_is_refused(token: str, words: str, verifier: JwtVerifier) -> None:
    with pytest.raises(UnauthenticatedError, match=words):
        verify(verifier, token)


@pytest.mark.parametrize("kid", ["rsa", "ec256", "ed"])
def test_a_public_key_is_never_taken_for_a_shared_secret(kid: str, verifier: JwtVerifier) -> None:
    for secret in (public_pem(KEYS[kid]), public_pem(KEYS[kid]).strip()):
        unsigned = forged({"alg": "HS256", "kid": kid}).rpartition(".")[0]
        token = f"{unsigned}.{b64(hmac.digest(secret, unsigned.encode(), sha256))}"
        with pytest.raises(UnauthenticatedError, match=r"^unknown token$"):
            verify(verifier, token)


def test_the_one_key_there_is_needs_no_name(folder: Path) -> None:
    verifier = JwtVerifier(read_keys(folder / "ed.pem"), ISSUER, AUDIENCE)
    assert verify(verifier, signed(None)).name == "shop"
    with pytest.raises(UnauthenticatedError):
        verify(verifier, signed("absent", key=ED25519))


def test_the_clocks_may_differ_a_little(verifier: JwtVerifier) -> None:
    assert verify(verifier, signed(exp=int(time.time()) - LEEWAY_SECONDS + 10, nbf=int(time.time()) + LEEWAY_SECONDS - 10)).name == "shop"


VALID = signed()


@given(st.integers(0, len(VALID) - 1), st.sampled_from("ABCDEFGHabcdefgh0123456789-_."))
def test_a_changed_token_is_refused(place: int, letter: str) -> None:
    verifier = JwtVerifier([_key_of(ED25519, "ed")], ISSUER, AUDIENCE)
    changed = VALID[:place] + letter + VALID[place + 1 :]
    # The last letter of a part carries bits that mean nothing.
    if [_decoded(part) for part in changed.split(".")] == [_decoded(part) for part in VALID.split(".")]:
        return
    with pytest.raises(UnauthenticatedError):
        verify(verifier, changed)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    with pytest.raises(UnauthenticatedError):
        verify(JwtVerifier([_key_of(ED25519, "ed")], ISSUER, AUDIENCE), f"{text}.{text}.{text}")


def _key_of(key: Any, kid: str) -> Any:
    from server.jwt_keys import VerifyingKey  # noqa: PLC0415 -- only these two tests need no files

    return VerifyingKey(kid, key.public_key(), ("EdDSA",))


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        return part.encode()


def test_a_token_that_was_valid_once_is_remembered_until_it_expires(verifier: JwtVerifier) -> None:
    expires = int(time.time()) + 600
    token = signed(exp=expires)
    first = verify(verifier, token)
    assert verify(verifier, token) is first
    assert verify(verifier, token, expires + LEEWAY_SECONDS) is not first


def test_the_memory_of_tokens_is_bounded_and_keeps_those_in_use(verifier: JwtVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_tokens, "MAX_REMEMBERED", 3)
    tokens = [signed(sub=f"shop-{number}") for number in range(4)]
    first = verify(verifier, tokens[0])
    for token in (*tokens[1:3], tokens[0], tokens[3]):
        verify(verifier, token)
    assert verify(verifier, tokens[0]) is first
    assert len(verifier._remembered) == 3


def test_a_refused_token_pushes_none_out_of_the_memory(verifier: JwtVerifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt_tokens, "MAX_REMEMBERED", 1)
    first = verify(verifier, VALID)
    for number in range(5):
        with pytest.raises(UnauthenticatedError):
            verify(verifier, signed(sub=f"x{number}", aud="other"))
    assert verify(verifier, VALID) is first


def jwks(*members: dict[str, Any]) -> bytes:
    return json.dumps({"keys": members}).encode()


def jwk(key: Any, kid: str = "one", **changes: Any) -> dict[str, Any]:
    kind: dict[str, Any] = {"rsa": jwt.algorithms.RSAAlgorithm, "ec": jwt.algorithms.ECAlgorithm, "ed": jwt.algorithms.OKPAlgorithm}
    name = "rsa" if isinstance(key, rsa.RSAPublicKey) else "ec" if isinstance(key, ec.EllipticCurvePublicKey) else "ed"
    return {**json.loads(kind[name].to_jwk(key)), "kid": kid, **changes}


def test_a_jwks_file_gives_its_signing_keys_by_kid(tmp_path: Path) -> None:
    members = [
        jwk(RSA.public_key(), "a"),
        jwk(EC384.public_key(), "b"),
        jwk(ED25519.public_key(), "c"),
        jwk(RSA.public_key(), "e", use="enc"),
    ]
    keys = read_keys(write(tmp_path / "jwks.json", jwks(*members)))
    assert {key.kid: key.algorithms for key in keys} == {"a": ("RS256", "PS256"), "b": ("ES384",), "c": ("EdDSA",)}
    assert verify(JwtVerifier(keys, ISSUER, AUDIENCE), signed("b", "ES384", EC384)).name == "shop"


def test_the_algorithm_of_a_jwk_binds_it(tmp_path: Path) -> None:
    verifier = JwtVerifier(read_keys(write(tmp_path / "jwks.json", jwks(jwk(RSA.public_key(), "a", alg="PS256")))), ISSUER, AUDIENCE)
    assert verify(verifier, signed("a", "PS256", RSA)).name == "shop"
    with pytest.raises(UnauthenticatedError):
        verify(verifier, signed("a", "RS256", RSA))


def private_pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "neither a public key"),
        (b"\xff" * 40, "neither a public key"),
        (private_pem(ED25519), "neither a public key"),
        (public_pem(rsa.generate_private_key(65537, 1024)), "1024 bits"),  # noqa: S505 -- it is refused
        (public_pem(ec.generate_private_key(ec.SECP521R1())), "not one of"),
        (public_pem(ec.generate_private_key(ec.SECP256K1())), "not one of"),
        (public_pem(ed448.Ed448PrivateKey.generate()), "not one of"),
        (public_pem(dsa.generate_private_key(2048)), "not one of"),
        (b"{}", "not a JWKS file"),
        (b'{"keys": 5}', "not a JWKS file"),
        (b'{"keys": ["a"]}', "not a JWKS file"),
        (b"{" + b"[" * 100_000, "not a JWKS file"),
        (jwks(), "holds no key"),
        (jwks(jwk(RSA.public_key(), use="enc")), "holds no key"),
        (jwks({"kty": "oct", "kid": "a", "k": "c2VjcmV0"}), "is secret"),
        (jwks(json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC256)) | {"kid": "a"}), "is secret"),
        (jwks({"kty": "EC", "kid": "a", "crv": "P-256", "x": "AA", "y": "AA"}), "not one of"),
        (jwks({"kty": "what", "kid": "a"}), "not one of"),
        (jwks(jwk(RSA.public_key(), alg="HS256")), "an algorithm that is not taken"),
        (jwks(jwk(RSA.public_key(), alg="ES256")), "an algorithm that is not taken"),
        (jwks(jwk(RSA.public_key(), kid="")), "no kid"),
        (jwks(jwk(RSA.public_key()), jwk(EC256.public_key())), "two keys of one name"),
    ],
)
def test_a_file_of_keys_that_cannot_be_used_is_named(data: bytes, named: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=named) as refused:
        read_keys(write(tmp_path / "keys.pem", data))
    assert len(str(refused.value)) < 400


def test_a_folder_without_keys_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no key"):
        read_keys(tmp_path)


def test_a_key_that_others_may_replace_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "key.pem", public_pem(ED25519))
    path.chmod(0o666)
    with pytest.raises(SettingsError, match="chmod go-w"):
        read_keys(path)
