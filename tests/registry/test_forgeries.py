"""What someone writes who knows the format and may write the folder: no reader believes it, none breaks on it, and verify names it."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from registry import canonical, checkpoint, sealing
from registry.canonical import JsonObject
from registry.commit import Change, Kind, at_place
from registry.errors import CorruptError, RegistryError, RuleError, SignatureError, StoreError
from registry.location import Keys, create_registry, open_registry
from registry.names import blob_key, checkpoint_key, commit_key
from registry.registry import Registry
from registry.route import Route, Target
from registry.signing import generate
from registry.verify import examine
from tests.registry.helpers import ACTOR, MODEL, Clock, bundle, filled, model, new_registry, register


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    public = generate(tmp_path / "ana.key")
    return Keys(tmp_path / "ana.key", public)


def append(root: Path, kind: Kind, payload: JsonObject, signature: JsonObject | None = None) -> str:
    """A commit at its place, with a right checksum, that no rule has seen; returns its key."""
    state = open_registry(str(root)).logs.state(MODEL)
    assert state.updated is not None
    entry = at_place(
        Change(kind, payload, "mallory", "mine"),
        model=MODEL,
        seq=state.seq + 1,
        previous=state.head,
        time=state.updated,
        sign=lambda value: value if signature is None else {**value, "signature": signature},
    )
    key = commit_key(MODEL, entry.seq)
    (root / key).write_bytes(entry.raw)
    return key


def everything(registry: Registry) -> list[Callable[[], object]]:
    return [
        lambda: registry.state(MODEL),
        lambda: list(registry.log(MODEL)),
        lambda: list(registry.history(MODEL, 1)),
        lambda: registry.evidence(MODEL, 1, "x"),
        lambda: [dict(registry.state(MODEL).versions), registry.state(MODEL).version(1)],
        lambda: registry.note(MODEL, actor=ACTOR, reason="on top"),
    ]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.EVIDENCE, {"version": 1, "name": "x"}),
        (Kind.EVIDENCE, {"version": 1, "name": "x", "sha256": "../../etc/passwd", "size": 1}),
        (Kind.REGISTERED, {"version": 9, "manifest": "zz"}),
        (Kind.REGISTERED, {"version": 10**300, "manifest": "0" * 64}),
        (Kind.ROUTED, {"stable": 1, "split": {"abc": 1}}),
        (Kind.ROUTED, {"stable": True}),
        (Kind.APPROVED, {"version": 77}),
        (Kind.NOTED, {"version": []}),
        (Kind.STAGED, {}),
    ],
)
def test_a_payload_that_cannot_be_is_refused_or_named_and_breaks_nobody(root: Path, kind: Kind, payload: JsonObject) -> None:
    register(new_registry(root), 2)
    key = append(root, kind, payload)
    for act in everything(open_registry(str(root))):
        with suppress(RegistryError):  # anything else would break who reads
            act()
    assert key in {problem.key for problem in examine(open_registry(str(root)).store).problems}


def test_a_note_may_hold_what_a_route_holds_and_is_no_route(root: Path) -> None:
    registry = new_registry(root)
    register(registry)
    odd: list[JsonObject] = [{"split": {"abc": 1}}, {"split": ["x"]}, {"shadows": [{}]}, {"version": 1, "split": 5}]
    for payload in odd:
        registry.logs.append(MODEL, lambda _, payload=payload: Change(Kind.NOTED, payload, ACTOR, "odd"))  # type: ignore[misc]
    assert [entry.seq for entry in registry.history(MODEL, 1)] == [1, 5]


@pytest.mark.parametrize("signature", [{"key": "", "ed25519": "\u00e9"}, {"key": "", "ed25519": 7}, {"key": [], "ed25519": "="}, {}])
def test_a_signature_of_any_kind_is_refused_and_breaks_nobody(root: Path, keys: Keys, signature: JsonObject) -> None:
    register(create_registry(str(root), Clock(), keys))
    trusting = open_registry(str(root), keys=keys)
    assert trusting.trust is not None
    (fingerprint,) = trusting.trust.keys
    if signature.get("key") == "":
        signature = {**signature, "key": fingerprint}
    key = append(root, Kind.NOTED, {}, signature)
    with pytest.raises(SignatureError):
        trusting.state(MODEL)
    assert [problem.key for problem in examine(trusting.store, trusting.trust).problems] == [key]


def test_evidence_is_what_the_trusted_log_named_not_what_stands_in_a_commit_exchanged_since(root: Path, keys: Keys) -> None:
    registry = create_registry(str(root), Clock(), keys)
    register(registry)
    registry.attach(MODEL, 1, "load.json", b"good", actor=ACTOR, reason="seen")
    registry.note(MODEL, actor=ACTOR, reason="later")
    registry.checkpoint(MODEL)
    evil = registry.blobs.put("evil", b"evil")
    old = registry.logs.commit(MODEL, 2)
    change = replace(old.change, payload={**old.payload, "sha256": evil.sha256, "size": evil.size})
    (root / commit_key(MODEL, 2)).write_bytes(at_place(change, model=MODEL, seq=2, previous=old.previous, time=old.time).raw)
    trusting = open_registry(str(root), keys=keys)
    assert trusting.evidence(MODEL, 1, "load.json") == b"good"
    with pytest.raises(RegistryError):
        list(trusting.log(MODEL))


def test_with_trust_a_log_from_before_there_were_keys_is_read_as_far_as_a_signed_checkpoint_vouches_for_it(root: Path, keys: Keys) -> None:
    old = new_registry(root)
    register(old, 2)
    trusting = open_registry(str(root), keys=keys)
    with pytest.raises(SignatureError):
        list(trusting.log(MODEL))
    open_registry(str(root), keys=Keys(keys.signing_key)).checkpoint(MODEL)
    trusting = open_registry(str(root), keys=keys)
    trusting.note(MODEL, actor=ACTOR, reason="signed")
    assert [entry.seq for entry in trusting.log(MODEL)] == [1, 2, 3]
    first = old.logs.commit(MODEL, 1).time
    assert trusting.state_at(MODEL, first).seq == 1
    append(root, Kind.NOTED, {})
    with pytest.raises(SignatureError):
        list(trusting.log(MODEL))


def test_the_past_is_not_read_from_a_checkpoint_that_is_not_of_the_log(root: Path) -> None:
    registry = open_registry(str(filled(root)))
    registry.checkpoint(MODEL)
    entry = registry.logs.commit(MODEL, 5)
    now = registry.state(MODEL)
    forged = replace(now, seq=5, head="0" * 64, updated=entry.time, routes=(Route(Target(3), 5, entry.time),))
    (root / checkpoint_key(MODEL, 5)).write_bytes(checkpoint.encode(forged))
    with pytest.raises(CorruptError, match="commit 5 of"):
        open_registry(str(root)).state_at(MODEL, entry.time)


def test_who_signs_begins_from_no_checkpoint_that_someone_else_put_there(root: Path, keys: Keys) -> None:
    signing = create_registry(str(root), Clock(), keys)
    register(signing, 2)
    signing.promote(MODEL, 2, to="production", actor=ACTOR, reason="good")
    forged = replace(signing.state(MODEL), routes=(Route(Target(1), 3, Clock().now),))
    key = root / checkpoint_key(MODEL, 3)
    key.parent.mkdir()
    key.write_bytes(checkpoint.encode(forged))
    alone = open_registry(str(root), keys=Keys(keys.signing_key))
    assert alone.state(MODEL).production == 2
    with pytest.raises(RuleError, match=r"there is a checkpoint of commit 3 .* already"):
        alone.checkpoint(MODEL)
    alone.note(MODEL, actor=ACTOR, reason="and take it then")
    alone.checkpoint(MODEL)
    assert open_registry(str(root), keys=keys).state(MODEL).production == 2


@pytest.mark.parametrize("group", [b'{"\xc2\xb2":{}}', b'{"' + b"9" * 5000 + b'":{}}', b'{"1":7}', b"[]", b'{"1":{}}'])
def test_a_forged_group_of_versions_is_an_error_of_the_registry(root: Path, group: bytes) -> None:
    registry = new_registry(root)
    register(registry)
    registry.checkpoint(MODEL)
    digest = canonical.digest(group)
    (root / blob_key(digest)).parent.mkdir(exist_ok=True)
    (root / blob_key(digest)).write_bytes(group)
    (old,) = registry.state(MODEL).versions.digests().values()
    said = checkpoint.parse((root / checkpoint_key(MODEL, 1)).read_bytes())
    for place in ("0", "7"):
        value: JsonObject = {**said.value, "versions": {"count": 1, "newest": 450, "groups": {place: digest}}}
        body: JsonObject = {key: item for key, item in value.items() if key != "checksum"}
        (root / checkpoint_key(MODEL, 1)).write_bytes(sealing.seal(body))
        with pytest.raises(RegistryError):
            dict(open_registry(str(root)).state(MODEL).versions)
    assert old != digest
    assert checkpoint_key(MODEL, 1) in {problem.key for problem in examine(registry.store).problems}


@pytest.mark.parametrize("what", ["log", ""])
def test_a_folder_exchanged_for_a_link_to_a_forged_one_is_named(root: Path, tmp_path: Path, what: str) -> None:
    registry = open_registry(str(filled(root)))
    kept = registry.checkpoint(MODEL)
    place = root / "models" / MODEL / what
    shutil.move(place, tmp_path / "forged")
    place.symlink_to(tmp_path / "forged")
    assert any(problem.key.startswith(f"models/{MODEL}") for problem in examine(registry.store).problems)
    assert any(problem.key.startswith(f"models/{MODEL}") for problem in examine(registry.store, kept=[kept]).problems)


def test_no_registration_relies_on_bytes_that_are_damaged(root: Path) -> None:
    registry = new_registry(root)
    register(registry)
    blob = root / blob_key(canonical.digest(model("model 0")))
    blob.write_bytes(b"")
    with pytest.raises(CorruptError, match="corrupt"):
        registry.register(MODEL, bundle("model 0"), {}, actor=ACTOR, reason="the same again")
    blob.unlink()
    blob.mkdir()
    with pytest.raises(StoreError, match="is not a file"):
        registry.register(MODEL, bundle("model 0"), {}, actor=ACTOR, reason="the same again")
    assert list(registry.state(MODEL).versions) == [1]


def test_a_link_that_leads_nowhere_and_a_pipe_are_missing_or_damaged_values(root: Path) -> None:
    registry = new_registry(root)
    register(registry)
    blob = root / blob_key(canonical.digest(model("model 0")))
    for put in ("link", "pipe"):
        blob.unlink()
        blob.symlink_to(blob) if put == "link" else os.mkfifo(blob)
        assert [problem.key for problem in examine(registry.store).problems] == [blob_key(canonical.digest(model("model 0")))]
