"""Registries of every released format stay readable, verify clean, and can be written on; and the files are what the schemas say."""

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from registry import bundle, profile
from registry.registry import Registry, open_registry
from registry.verify import examine
from tests.registry.helpers import ACTOR, files, register

GOLDEN = Path(__file__).parent.parent / "golden"
FORMATS = Path(__file__).parent.parent.parent / "docs" / "formats"
REGISTRIES = sorted(GOLDEN.glob("registry-*"))
MODEL = "mortgage-denial"
WHAT = ("commit", "manifest", "profile", "signature")


def schema(what: str) -> Mapping[str, object]:
    value: Mapping[str, object] = json.loads((FORMATS / f"{what}.schema.json").read_text())
    return value


def documents(root: Path) -> list[tuple[str, bytes]]:
    """Every JSON file of a registry that has a schema, with the name of its format."""
    found = [
        (json.loads(raw)["format"].split("/")[0].removeprefix("tidegate."), raw) for raw in files(root).values() if raw.startswith(b"{")
    ]
    return [(what, raw) for what, raw in found if what in WHAT]


@pytest.fixture(params=REGISTRIES, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    shutil.copytree(request.param, tmp_path / "registry")
    return open_registry(str(tmp_path / "registry"))


def test_there_is_a_golden_registry() -> None:
    assert [path.name for path in REGISTRIES] == ["registry-1"]


def test_a_golden_registry_verifies_clean(golden: Registry) -> None:
    report = examine(golden.store)
    assert (report.problems, report.leftovers) == ((), ())
    assert (report.models, report.versions, report.commits) == (2, 4, 9)


def test_its_states_present_and_past_are_what_they_were(golden: Registry) -> None:
    assert golden.models() == ["a.b_c-1", MODEL]
    state = golden.state(MODEL)
    assert (sorted(state.versions), state.production, state.staging) == ([1, 2, 3], 1, 3)
    assert state.head == "a8bb254ce6978f75128f00e79f8e831bf5603ffae6fa56e1564f6478e2928b73"
    then = golden.state_at(MODEL, datetime(2026, 1, 31, 12, 9, tzinfo=UTC))
    assert (then.production, then.staging) == (2, None)
    assert [entry.kind.value for entry in golden.log(MODEL)] == [*["registered"] * 3, "routed", "staged", "routed", "rolled_back", "staged"]


def test_its_files_are_read_and_parse(golden: Registry) -> None:
    assert golden.read(MODEL, 2, bundle.MODEL) == b"not a model: the bytes of version 2\n"
    signature = bundle.parse_signature(golden.read(MODEL, 1, bundle.SIGNATURE))
    assert (signature.positive, signature.inputs[0].columns) == ("denied", ("income", "loan_amount"))
    reference = profile.parse(golden.read(MODEL, 1, bundle.PROFILE))
    assert [feature.name for feature in reference.features] == ["income", "loan_amount", "purpose", "score", "class"]


def test_its_log_can_be_continued(golden: Registry) -> None:
    golden.promote(MODEL, 3, to="production", actor=ACTOR, reason="today")
    register(golden, 1, MODEL)
    assert examine(golden.store).problems == ()


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
    raw = next(raw for name, raw in documents(REGISTRIES[0]) if name == what)
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
