"""Registries of every released format stay readable, verify clean, and can be written on; and the files are what the schemas say."""

import json
import shutil
import tarfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from registry import archive, bundle, checkpoint, profile
from registry.commit import Kind
from registry.location import Keys, create_registry, open_registry
from registry.names import blob_key
from registry.registry import Registry
from registry.route import Target
from registry.verify import examine
from tests.registry.helpers import ACTOR, files, register

GOLDEN = Path(__file__).parent.parent / "golden"
FORMATS = Path(__file__).parent.parent.parent / "docs" / "formats"
EXPORTED, KEPT = GOLDEN / "version-2.tidegate", GOLDEN / "kept.json"
REGISTRIES = sorted(GOLDEN.glob("registry-*"))
MODEL = "mortgage-denial"
WHAT = ("bundle", "checkpoint", "commit", "manifest", "profile", "signature")


def schema(what: str) -> Mapping[str, object]:
    value: Mapping[str, object] = json.loads((FORMATS / f"{what}.schema.json").read_text())
    return value


def documents(root: Path) -> list[tuple[str, bytes]]:
    """Every JSON file of a registry that has a schema, with the name of its format."""
    written = [
        raw for raw in (*files(root).values(), header_of(EXPORTED), KEPT.read_bytes()) if raw.startswith(b'{"') and b'"format"' in raw
    ]
    found = [(json.loads(raw)["format"].split("/")[0].removeprefix("tidegate."), raw) for raw in written]
    return [(what, raw) for what, raw in found if what in WHAT]


def header_of(path: Path) -> bytes:
    """The header of an exported version."""
    with tarfile.open(path) as tar:
        header = tar.extractfile(archive.HEADER)
        assert header is not None
        return header.read()


@pytest.fixture
def older(tmp_path: Path) -> Registry:
    """One of before there were signatures, checkpoints and routes of several versions."""
    shutil.copytree(GOLDEN / "registry-1", tmp_path / "registry")
    return open_registry(str(tmp_path / "registry"))


@pytest.fixture
def signed(tmp_path: Path) -> Registry:
    """One with every kind of commit, signed."""
    shutil.copytree(GOLDEN / "registry-1-signed", tmp_path / "registry")
    return open_registry(str(tmp_path / "registry"), keys=Keys(trusted_keys=GOLDEN / "golden.pub"))


def test_there_are_golden_registries() -> None:
    assert [path.name for path in REGISTRIES] == ["registry-1", "registry-1-signed"]


def test_a_golden_registry_verifies_clean(older: Registry) -> None:
    report = examine(older.store)
    assert (report.problems, report.leftovers) == ((), ())
    assert (report.models, report.versions, report.commits) == (2, 4, 9)


def test_its_states_present_and_past_are_what_they_were(older: Registry) -> None:
    assert older.models() == ["a.b_c-1", MODEL]
    state = older.state(MODEL)
    assert (sorted(state.versions), state.production, state.staging) == ([1, 2, 3], 1, 3)
    assert state.head == "a8bb254ce6978f75128f00e79f8e831bf5603ffae6fa56e1564f6478e2928b73"
    then = older.state_at(MODEL, datetime(2026, 1, 31, 12, 9, tzinfo=UTC))
    assert (then.production, then.staging) == (2, None)
    assert [entry.kind.value for entry in older.log(MODEL)] == [*["registered"] * 3, "routed", "staged", "routed", "rolled_back", "staged"]


def test_its_files_are_read_and_parse(older: Registry) -> None:
    assert older.read(MODEL, 2, bundle.MODEL) == b"not a model: the bytes of version 2\n"
    signature = bundle.parse_signature(older.read(MODEL, 1, bundle.SIGNATURE))
    assert (signature.positive, signature.inputs[0].columns) == ("denied", ("income", "loan_amount"))
    reference = profile.parse(older.read(MODEL, 1, bundle.PROFILE))
    assert [feature.name for feature in reference.features] == ["income", "loan_amount", "purpose", "score", "class"]


def test_its_log_can_be_continued(older: Registry) -> None:
    older.promote(MODEL, 3, to="production", actor=ACTOR, reason="today")
    register(older, 1, MODEL)
    assert examine(older.store).problems == ()


def test_a_signed_golden_registry_verifies_clean_against_its_key_and_a_checkpoint_kept_elsewhere(signed: Registry) -> None:
    kept = checkpoint.parse(KEPT.read_bytes())
    assert signed.trust is not None
    assert signed.trust.check(kept.value, "it") == "golden"
    report = examine(signed.store, signed.trust, [kept])
    assert (report.problems, report.leftovers) == ((), ())
    assert (report.models, report.versions) == (2, 5)


def test_a_signed_one_says_what_it_said(signed: Registry) -> None:
    state = signed.state(MODEL)
    assert [entry.kind for entry in signed.log(MODEL) if entry.seq > 4] == [
        *[Kind.ROUTED, Kind.EVIDENCE, Kind.APPROVED, Kind.SIGNED_OFF, Kind.OVERRIDDEN, Kind.STAGED],
        *[Kind.ROUTED, Kind.ROUTED, Kind.ROLLED_BACK, Kind.RETIRED, Kind.NOTED, Kind.NOTED],
    ]
    assert state.route is not None
    assert state.route.target == Target(1, {1: 90, 2: 10}, (3,))
    assert (list(state.version(2).approvals), list(state.version(2).sign_offs), list(state.version(2).overrides)) == (
        ["ben"],
        ["data-privacy"],
        ["fairness"],
    )
    assert (state.version(4).retired is not None, state.staging) == (True, None)
    assert signed.evidence(MODEL, 2, "load-test.json") == b'{"p99_ms": 4.2}\n'
    assert signed.state_at(MODEL, datetime(2026, 1, 31, 12, tzinfo=UTC)).seq == 0


def test_an_exported_version_of_then_can_be_imported(signed: Registry, tmp_path: Path) -> None:
    found = archive.read(EXPORTED, signed.trust)
    registry = create_registry(str(tmp_path / "elsewhere"))
    assert archive.register(registry, found, MODEL, actor=ACTOR, reason="from then") == 1
    assert registry.read(MODEL, 1, "model.onnx") == signed.read(MODEL, 2, "model.onnx")


@pytest.mark.parametrize("what", WHAT)
def test_a_schema_is_valid_and_every_file_of_its_format_conforms(what: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(what))
    validator = jsonschema.Draft202012Validator(schema(what))
    found = [raw for root in REGISTRIES for name, raw in documents(root) if name == what]
    assert found
    for raw in found:
        validator.validate(json.loads(raw))


@pytest.mark.parametrize("what", WHAT)
def test_a_schema_refuses_a_file_without_a_required_field_and_allows_one_of_a_later_release(what: str) -> None:
    validator = jsonschema.Draft202012Validator(schema(what))
    raw = next(raw for root in REGISTRIES for name, raw in documents(root) if name == what)
    value = json.loads(raw)
    validator.validate({**value, "x_later": 1})
    required = schema(what)["required"]
    assert isinstance(required, list)
    for field in required:
        assert not validator.is_valid({key: item for key, item in value.items() if key != field}), field


@pytest.mark.parametrize("what", WHAT)
def test_each_format_has_a_page_that_names_its_schema(what: str) -> None:
    page = (FORMATS / f"{what}.md").read_text()
    assert f"`tidegate.{what}/1`" in page
    assert f"({what}.schema.json)" in page


def test_the_groups_that_checkpoints_name_conform_to_their_schema() -> None:
    validator = jsonschema.Draft202012Validator(schema("group"))
    root = GOLDEN / "registry-1-signed"
    named = [
        digest
        for path in (root / "models" / MODEL / "checkpoints").iterdir()
        for digest in checkpoint.parse(path.read_bytes()).groups.values()
    ]
    assert named
    for digest in named:
        validator.validate(json.loads((root / blob_key(digest)).read_bytes()))
