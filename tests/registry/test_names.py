"""What may be a name: nothing from outside becomes a path without passing here."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidNameError, NotFoundError, RuleError
from registry.names import (
    blob_key,
    check_digest,
    check_name,
    check_stage,
    check_version,
    checkpoint_key,
    commit_key,
    manifest_key,
    parse_blob_key,
    parse_checkpoint_key,
    parse_commit_key,
    parse_manifest_key,
)
from registry.registry import Registry
from tests.registry.helpers import ACTOR, MODEL, bundle, files, register
from tests.registry.strategies import digests, names

if TYPE_CHECKING:
    from collections.abc import Callable

NASTY = [
    "",
    ".",
    "..",
    "../x",
    "a/../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:\\x",
    "%2e%2e%2fx",
    "..%2f",
    "a\0b",
    "a\n",
    "\na",
    " a",
    "a ",
    "a b",
    "~",
    "~root",
    "-rf",
    "_x",
    ".tmp-1",
    "A",
    "Mortgage",
    "m\u043ertgage",  # a Cyrillic o
    "\u0430bc",  # a Cyrillic a
    "\uff41bc",  # a full-width a
    "\u0661",  # an Arabic-Indic one, a digit to str.isdigit
    "caf\u00e9",
    "a\u200b",
    "a\u202e",
    "\ud800",
    "$(id)",
    "a;b",
    "a:b",
    "a*",
    "a" * 64,
    "a" * 100_000,
]


@pytest.mark.parametrize("name", NASTY)
def test_a_name_that_could_leave_the_registry_or_be_taken_for_another_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_name(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@given(names)
def test_every_name_of_the_alphabet_is_accepted_as_it_is(name: str) -> None:
    assert check_name(name) == name


@given(st.text())
def test_an_accepted_name_never_changes_the_folder_it_is_put_in(name: str) -> None:
    try:
        key = commit_key(name, 1)
    except InvalidNameError:
        return
    assert key.split("/") == ["models", name, "log", "00000000000000000001.json"]


@given(names, st.integers(1, 10**20 - 1), digests)
def test_a_key_says_what_it_is_the_key_of(model: str, number: int, digest: str) -> None:
    assert parse_commit_key(commit_key(model, number)) == (model, number)
    assert parse_manifest_key(manifest_key(model, number)) == (model, number)
    assert parse_checkpoint_key(checkpoint_key(model, number)) == (model, number)
    assert parse_blob_key(blob_key(digest)) == digest


@pytest.mark.parametrize(
    "key",
    [
        "",
        "registry.json",
        "models/m/log/1.json",
        "models/m/log/00000000000000000000.json",
        "models/M/log/00000000000000000001.json",
        "models/../log/00000000000000000001.json",
        "models/m/log/00000000000000000001.json/x",
        "models/m/log/\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661\u0661.json",
        "models/m/versions/0/manifest.json",
        "models/m/versions/01/manifest.json",
        f"blobs/sha256/00/{'a' * 64}",
        f"{'a' * 64}",
    ],
)
def test_what_is_not_quite_a_key_is_no_key(key: str) -> None:
    assert (parse_commit_key(key), parse_manifest_key(key), parse_blob_key(key)) == (None, None, None)


@pytest.mark.parametrize("name", NASTY)
def test_no_operation_takes_such_a_name_nor_leaves_a_trace_of_it(registry: Registry, root: Path, name: str) -> None:
    register(registry)
    before = files(root.parent)
    acts: list[Callable[[], object]] = [
        lambda: registry.register(name, bundle(), {}, actor=ACTOR, reason="x"),
        lambda: registry.register(MODEL, {**bundle(), name: b"x"}, {}, actor=ACTOR, reason="x"),
        lambda: registry.state(name),
        lambda: list(registry.log(name)),
        lambda: registry.promote(name, 1, to="staging", actor=ACTOR, reason="x"),
        lambda: registry.promote(MODEL, 1, to=name, actor=ACTOR, reason="x"),
        lambda: registry.attach(MODEL, 1, name, b"x", actor=ACTOR, reason="x"),
        lambda: registry.sign_off(MODEL, 1, name, actor=ACTOR, reason="x"),
        lambda: registry.override(MODEL, 1, name, actor=ACTOR, reason="x"),
        lambda: registry.read(MODEL, 1, name),
        lambda: registry.evidence(MODEL, 1, name),
        lambda: registry.checkpoint(name),
    ]
    for act in acts:
        with pytest.raises((InvalidNameError, RuleError, NotFoundError)):
            act()
    assert files(root.parent) == before


def test_keys_of_commits_sort_as_their_numbers_do() -> None:
    numbers = [1, 2, 9, 10, 11, 99, 100, 10**19]
    assert sorted(commit_key("m", number) for number in reversed(numbers)) == [commit_key("m", number) for number in numbers]


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None])
def test_a_version_is_a_positive_integer_and_nothing_else(version: object) -> None:
    with pytest.raises(InvalidNameError, match="versions are 1, 2, 3"):
        check_version(version)  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", ["", "prod", "Production", "archived", "x" * 1000])
def test_there_are_two_stages(stage: str) -> None:
    with pytest.raises(InvalidNameError, match="use staging or production"):
        check_stage(stage)


@pytest.mark.parametrize("digest", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 64 + "\n", "../" + "a" * 61])
def test_a_digest_is_64_hexadecimal_digits(digest: str) -> None:
    with pytest.raises(InvalidNameError):
        check_digest(digest)
