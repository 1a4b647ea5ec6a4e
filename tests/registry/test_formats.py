"""The laws of the formats: what was written is read back, fields of a later release survive, anything else is a FormatError."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import bundle, canonical, commit, manifest, profile, sealing
from registry.bundle import Signature
from registry.canonical import Json, JsonObject
from registry.commit import Change, Kind
from registry.errors import FormatError, NotFoundError
from registry.manifest import File, Manifest
from registry.profile import Profile
from registry.times import format_time, parse_time
from tests.registry.helpers import SIGNATURE
from tests.registry.strategies import digests, json_objects, later_fields, names, profiles, signatures, some_later_fields, texts, times

Parse: TypeAlias = Callable[[bytes], object]

changes = st.builds(Change, st.sampled_from(Kind), json_objects, texts, texts)
manifests = st.builds(
    Manifest,
    names,
    st.integers(1, 1 << 40),
    times,
    st.dictionaries(names, st.builds(File, digests, st.integers(0, 1 << 50)), max_size=4),
    json_objects,
    later_fields,
)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
COMMIT = commit.at_place(Change(Kind.STAGED, {"version": 1}, "ana", "why"), model="m", seq=1, previous=None, time=NOON)
MANIFEST = Manifest("m", 1, NOON, {"model.onnx": File("a" * 64, 1)}, {})
PROFILE_SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[2] / "docs" / "formats" / "profile.schema.json").read_text())
)
PROFILE = Profile(3, (profile.numeric_feature("x", [1.0, 2.0, 3.0]),), (profile.categorical_feature("class", ["a", "b", "a"]),))
READERS: dict[str, tuple[Parse, bytes]] = {
    "commit": (commit.parse, COMMIT.raw),
    "manifest": (manifest.parse, MANIFEST.encode()),
    "signature": (bundle.parse_signature, SIGNATURE.encode()),
    "profile": (profile.parse, PROFILE.encode()),
}


@given(changes, names, st.integers(1, 1 << 60), st.none() | digests, times)
def test_a_commit_is_read_back_as_it_was_written(change: Change, model: str, seq: int, previous: str | None, time: datetime) -> None:
    entry = commit.at_place(change, model=model, seq=seq, previous=previous, time=time)
    assert commit.parse(entry.raw) == entry
    assert (entry.change, entry.model, entry.seq, entry.previous, entry.time) == (change, model, seq, previous, time)


@given(manifests)
def test_a_manifest_is_read_back_as_it_was_written(value: Manifest) -> None:
    assert manifest.parse(value.encode()) == value


@given(signatures)
def test_a_signature_is_read_back_as_it_was_written(value: Signature) -> None:
    assert bundle.parse_signature(value.encode()) == value


@given(profiles())
def test_a_profile_is_read_back_as_it_was_written(value: Profile) -> None:
    assert profile.parse(value.encode()) == value


@given(profiles())
def test_a_profile_is_what_its_schema_says(value: Profile) -> None:
    PROFILE_SCHEMA.validate(json.loads(value.encode()))


@given(times)
def test_a_time_is_read_back_as_it_was_written_and_sorts_as_its_text_does(time: datetime) -> None:
    assert parse_time(format_time(time)) == time
    assert (format_time(time) < format_time(NOON)) == (time < NOON)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T12:00:00", NOON),
        ("2026-01-31T14:00:00+02:00", NOON),
        ("2026-01-31", NOON.replace(hour=0)),
    ],
)
def test_a_time_without_an_offset_is_utc(text: str, meant: datetime) -> None:
    assert parse_time(text) == meant


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_what_is_no_time_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


@given(some_later_fields)
def test_fields_a_later_release_added_survive_being_read_and_written(later: JsonObject) -> None:
    for parse, raw in (READERS["manifest"], READERS["signature"], READERS["profile"]):
        wider = canonical.encode({**canonical.decode(raw, "it"), **later})
        value = parse(wider)
        assert isinstance(value, Manifest | Signature | Profile)
        assert value.encode() == wider


@given(some_later_fields)
def test_a_commit_with_fields_of_a_later_release_is_read_and_keeps_its_bytes(later: JsonObject) -> None:
    body = {key: item for key, item in {**canonical.decode(COMMIT.raw, "it"), **later}.items() if key != sealing.CHECKSUM}
    raw = sealing.seal(body)
    assert commit.parse(raw).raw == raw
    assert commit.parse(raw).change == COMMIT.change


@given(st.data())
def test_one_flipped_bit_in_a_commit_is_refused(data: st.DataObject) -> None:
    raw = bytearray(COMMIT.raw)
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(FormatError):
        commit.parse(bytes(raw))


@given(st.sampled_from(sorted(READERS)), st.data())
def test_a_field_that_is_missing_or_of_another_type_is_a_format_error_or_still_a_value(what: str, data: st.DataObject) -> None:
    parse, raw = READERS[what]
    value = dict(canonical.decode(raw, what))
    key = data.draw(st.sampled_from(sorted(value)))
    junk: Json = data.draw(st.sampled_from([None, True, -1, 1.5, "", "x", [], [None], [{}], {}, {"x": 1}, 10**400]))
    for broken in ({**value, key: junk}, {name: item for name, item in value.items() if name != key}):
        try:
            parse(canonical.encode(broken))
        except FormatError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("what", sorted(READERS))
def test_a_format_of_another_release_is_refused_and_named(what: str) -> None:
    parse, raw = READERS[what]
    with pytest.raises(FormatError, match="written by another release"):
        parse(raw.replace(f'"tidegate.{what}/1"'.encode(), f'"tidegate.{what}/2"'.encode()))


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": []},
        {"outputs": []},
        {"inputs": [{"name": "a", "datatype": "FP99", "shape": [1]}]},
        {"inputs": [{"name": "a", "datatype": "FP32", "shape": [True]}]},
        {"inputs": [{"name": "a", "datatype": "FP32", "shape": [1]}] * 2},
        {"inputs": [{"name": 1, "datatype": "FP32", "shape": [1]}]},
        {"classes": ["a", 1]},
        {"positive": 3},
    ],
)
def test_a_signature_that_makes_no_sense_is_refused(change: JsonObject) -> None:
    with pytest.raises(FormatError, match=r"signature\.json has a wrong field"):
        bundle.parse_signature(canonical.encode({**canonical.decode(SIGNATURE.encode(), "it"), **change}))


@pytest.mark.parametrize(
    "feature",
    [
        {"name": "x", "kind": "numeric", "edges": [2.0, 1.0], "reference": [0, 0, 0, 0]},
        {"name": "x", "kind": "numeric", "edges": [1.0], "reference": [0, 0]},
        {"name": "x", "kind": "numeric", "edges": [1.0], "reference": [0, 0, -1]},
        {"name": "x", "kind": "ordinal", "edges": [], "reference": [0, 0]},
        {"name": "x", "kind": "categorical", "values": ["a", "a"], "reference": [0, 0, 0, 0]},
        {"name": "x", "kind": "categorical", "values": [""], "reference": [0, 0, 0]},
        {"name": "x", "kind": "categorical", "values": ["a"], "reference": []},
    ],
)
def test_a_profile_whose_bins_make_no_sense_is_refused(feature: JsonObject) -> None:
    with pytest.raises(FormatError, match=r"profile\.json has a wrong field"):
        profile.parse(canonical.encode({"format": profile.FORMAT, "rows": 1, "inputs": [feature], "predictions": []}))


@pytest.mark.parametrize("name", ["../x", "a/b", "", "A"])
def test_a_manifest_cannot_name_a_file_outside_the_alphabet(name: str) -> None:
    value: JsonObject = {**canonical.decode(MANIFEST.encode(), "it"), "files": {name: {"sha256": "a" * 64, "size": 1}}}
    with pytest.raises(FormatError, match="not allowed"):
        manifest.parse(canonical.encode(value))


def test_a_file_a_bundle_does_not_have_is_named_with_those_it_has() -> None:
    with pytest.raises(NotFoundError, match=r"no golden\.npz; it has model\.onnx"):
        MANIFEST.file("golden.npz")
