"""Signatures say who wrote what, keys are files that openssl knows, and with trusted keys nothing else is read or built upon."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given

from registry import commit, manifest, sealing
from registry.canonical import JsonObject
from registry.errors import KeyFileError, SignatureError
from registry.location import Keys, create_registry, open_registry
from registry.names import checkpoint_key, commit_key, manifest_key
from registry.signing import Signer, Trust, generate, load_signer, load_trust
from registry.verify import examine
from tests.registry.helpers import ACTOR, MODEL, Clock, bundle, files, register
from tests.registry.strategies import json_objects


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the private and public keys of ana and eve, and `trusted/` with ana's public key only."""
    folder = tmp_path / "keys"
    (folder / "trusted").mkdir(parents=True)
    for name in ("ana", "eve"):
        generate(folder / f"{name}.key")
    shutil.copy(folder / "ana.pub", folder / "trusted")
    return folder


def written(root: Path, key: Path | None) -> None:
    registry = create_registry(str(root), Clock(), Keys(signing_key=key))
    register(registry, 2)
    registry.promote(MODEL, 1, to="production", actor=ACTOR, reason="go")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Signer, Trust]:
    folder = tmp_path_factory.mktemp("law")
    public = generate(folder / "law.key")
    return load_signer(folder / "law.key"), load_trust(public)


@given(value=json_objects)
def test_what_is_signed_is_checked_and_one_changed_field_is_found(pair: tuple[Signer, Trust], value: JsonObject) -> None:
    signer, trust = pair
    signed = signer.sign(value)
    assert trust.check(signed, "it") == "law"
    with pytest.raises(SignatureError, match="changed after it was signed"):
        trust.check({**signed, "another field": 1}, "it")


def test_a_key_pair_is_pem_that_openssl_reads_and_only_its_owner_may_read_the_private_one(keys: Path) -> None:
    assert stat.S_IMODE((keys / "ana.key").stat().st_mode) == 0o600
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here")
    derived = subprocess.run([openssl, "pkey", "-in", str(keys / "ana.key"), "-pubout"], check=True, capture_output=True).stdout
    assert derived == (keys / "ana.pub").read_bytes()


def test_a_key_is_never_overwritten(keys: Path) -> None:
    before = files(keys)
    for place in (keys / "ana.key", keys / "ana.pub", keys / "no" / "such" / "folder.key"):
        with pytest.raises(KeyFileError):
            generate(place)
    assert files(keys) == before


def test_what_is_no_ed25519_key_is_refused_with_what_to_do(keys: Path, tmp_path: Path) -> None:
    (tmp_path / "rsa.key").write_bytes(generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    secret = load_pem_private_key((keys / "ana.key").read_bytes(), None)
    (tmp_path / "locked.key").write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    (tmp_path / "text.key").write_text("hello")
    for place, says in [
        (tmp_path / "rsa.key", "only Ed25519"),
        (tmp_path / "locked.key", "unencrypted"),
        (tmp_path / "text.key", "tidegate registry keygen"),
        (keys / "ana.pub", "tidegate registry keygen"),
        (tmp_path / "absent.key", "No such file"),
    ]:
        with pytest.raises(KeyFileError, match=says):
            load_signer(place)
    (tmp_path / "none").mkdir()
    refused = [(tmp_path / "none", "holds no public key"), (keys / "ana.key", "not a public key"), (tmp_path / "x", "No such file")]
    for place, says in refused:
        with pytest.raises(KeyFileError, match=says):
            load_trust(place)


def test_every_commit_manifest_and_checkpoint_is_signed_by_the_key(keys: Path, root: Path) -> None:
    written(root, keys / "ana.key")
    registry = open_registry(str(root), keys=Keys(keys / "ana.key", keys / "trusted"))
    registry.checkpoint(MODEL)
    trust = load_trust(keys / "trusted")
    for seq in (1, 2, 3):
        assert trust.check(commit.parse((root / commit_key(MODEL, seq)).read_bytes()).value, "it") == "ana"
    assert trust.check(manifest.parse((root / manifest_key(MODEL, 2)).read_bytes()).to_json(), "it") == "ana"
    assert examine(registry.store, trust).problems == ()
    assert registry.state(MODEL).production == 1


@pytest.mark.parametrize("who", ["eve", None])
def test_what_no_trusted_key_signed_is_neither_read_nor_built_upon_and_named_by_verify(keys: Path, root: Path, who: str | None) -> None:
    written(root, keys / "ana.key")
    open_registry(str(root), keys=Keys(keys / f"{who}.key" if who else None)).promote(
        MODEL, 2, to="production", actor="ana", reason="she never said so"
    )
    before = files(root)
    registry = open_registry(str(root), keys=Keys(keys / "ana.key", keys / "trusted"))
    with pytest.raises(SignatureError, match=r"commit 4 of 'mortgage-denial' is (signed by key .* not trusted|not signed)"):
        registry.state(MODEL)
    with pytest.raises(SignatureError):
        registry.promote(MODEL, 2, to="staging", actor=ACTOR, reason="on top")
    assert files(root) == before
    assert [problem.key for problem in examine(registry.store, registry.trust).problems] == [commit_key(MODEL, 4)]
    assert examine(registry.store).problems == ()  # without keys nobody can know


def test_a_commit_changed_by_who_knows_the_format_but_has_no_key_is_found(keys: Path, root: Path) -> None:
    written(root, keys / "ana.key")
    path = root / commit_key(MODEL, 3)
    value = {**commit.parse(path.read_bytes()).value, "reason": "another reason"}
    path.write_bytes(sealing.seal({key: item for key, item in value.items() if key != sealing.CHECKSUM}))
    registry = open_registry(str(root), keys=Keys(trusted_keys=keys / "trusted"))
    assert examine(registry.store).problems == ()
    (problem,) = examine(registry.store, registry.trust).problems
    assert problem.key == commit_key(MODEL, 3)
    assert "changed after it was signed" in problem.what
    with pytest.raises(SignatureError, match="changed after it was signed"):
        registry.state(MODEL)


def test_a_signed_checkpoint_vouches_for_the_commits_before_it_and_for_no_later_one(keys: Path, root: Path) -> None:
    written(root, None)
    trusting = Keys(keys / "ana.key", keys / "trusted")
    with pytest.raises(SignatureError, match="not signed"):
        open_registry(str(root), keys=trusting).state(MODEL)
    open_registry(str(root), keys=Keys(keys / "ana.key")).checkpoint(MODEL)
    registry = open_registry(str(root), keys=trusting)
    assert registry.state(MODEL).seq == 3
    registry.promote(MODEL, 2, to="production", actor=ACTOR, reason="signed from now on")
    assert examine(registry.store, registry.trust).problems == ()
    open_registry(str(root)).note(MODEL, actor="eve", reason="not signed")
    assert [problem.key for problem in examine(registry.store, registry.trust).problems] == [commit_key(MODEL, 5)]


def test_a_checkpoint_of_a_key_that_is_not_trusted_is_not_begun_from(keys: Path, root: Path) -> None:
    written(root, keys / "ana.key")
    eve = open_registry(str(root), keys=Keys(keys / "eve.key"))
    eve.checkpoint(MODEL)
    assert (root / checkpoint_key(MODEL, 3)).exists()
    registry = open_registry(str(root), keys=Keys(trusted_keys=keys / "trusted"))
    assert registry.state(MODEL).seq == 3
    register_unsigned = open_registry(str(root))
    register_unsigned.register(MODEL, bundle("three"), {}, actor="eve", reason="mine")
    with pytest.raises(SignatureError):
        open_registry(str(root), keys=Keys(trusted_keys=keys / "trusted")).state(MODEL)
