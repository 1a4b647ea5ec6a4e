"""A checkpoint says exactly what the log adds up to, and whatever happened to its bytes afterwards is found."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import checkpoint
from registry.errors import FormatError
from registry.route import Route, Target
from registry.state import ModelState
from registry.version import GROUP, Evidence, Version, Versions
from tests.registry.strategies import digests, texts, times

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
decided = st.dictionaries(texts, st.integers(1, 1 << 40), max_size=3)
numbers = st.one_of(st.integers(1, 3), st.integers(GROUP - 2, GROUP + 2), st.integers(1, 1 << 40))
versions = st.builds(
    Version,
    numbers,
    digests,
    st.integers(1, 1 << 40),
    times,
    texts,
    texts,
    st.dictionaries(texts, st.builds(Evidence, st.integers(1, 1 << 40), digests, st.integers(0, 1 << 40)), max_size=3),
    *[decided] * 3,
    st.none() | st.integers(1, 9),
)
targets = st.builds(
    lambda stable, canary, weight, shadows: Target(stable, {stable: 100 - weight, canary: weight} if canary != stable else {}, shadows),
    numbers,
    numbers,
    st.integers(1, 99),
    st.lists(numbers, max_size=2, unique=True).map(tuple),
)
routes = st.lists(st.builds(Route, targets, st.integers(1, 1 << 40), times), max_size=3).map(tuple)


def gathered(found: list[Version]) -> Versions:
    result = Versions()
    for version in found:
        result = result.with_version(version)
    return result


def stored(state: ModelState) -> checkpoint.Load:
    """What gives the groups of a state."""
    groups = {group.digest: group.raw for group in state.versions.groups.values()}
    return lambda _place, digest: groups[digest]


states = st.builds(
    ModelState,
    st.just("m"),
    st.integers(1, 1 << 40),
    digests,
    st.lists(versions, max_size=6).map(gathered),
    st.none() | numbers,
    routes,
    times,
)


@given(states)
def test_what_was_written_is_read_back(state: ModelState) -> None:
    found = checkpoint.parse(checkpoint.encode(state))
    again = found.state(stored(state))
    assert found.agrees(state)
    assert again == state
    assert dict(again.versions) == dict(state.versions)
    assert list(again.versions) == sorted(state.versions)
    assert (len(again.versions), again.versions.newest) == (len(state.versions), max(state.versions, default=0))
    assert checkpoint.encode(again) == checkpoint.encode(state)


@given(states, states)
def test_it_agrees_with_no_other_state(state: ModelState, other: ModelState) -> None:
    assert checkpoint.parse(checkpoint.encode(state)).agrees(other) == (state == other)


@given(st.lists(versions, max_size=12), st.lists(versions, max_size=4))
def test_versions_are_a_map_that_never_changes(first: list[Version], later: list[Version]) -> None:
    before = gathered(first)
    expected = {version.number: version for version in first}
    after = before
    for version in later:
        after = after.with_version(version)
    assert dict(before) == expected
    assert dict(after) == {**expected, **{version.number: version for version in later}}
    assert list(after) == sorted(after)
    assert len(after) == len(dict(after))
    assert 1 << 50 not in after


def small() -> ModelState:
    version = Version(1, "a" * 64, 1, NOON, "ana", "why")
    return ModelState("m", 3, "b" * 64, Versions().with_version(version), None, (Route(Target(1), 2, NOON),), NOON)


def test_one_flipped_bit_anywhere_is_found() -> None:
    raw = checkpoint.encode(small())
    generator = random.Random(3)  # noqa: S311
    print("seed 3")  # noqa: T201
    for bit in generator.sample(range(len(raw) * 8), 600):
        broken = bytearray(raw)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            checkpoint.parse(bytes(broken))


@pytest.mark.parametrize("cut", [0, 1, 20, -1, -2, -4, -40])
def test_one_that_was_cut_off_is_found(cut: int) -> None:
    with pytest.raises(FormatError):
        checkpoint.parse(checkpoint.encode(small())[:cut])


def test_a_state_without_commits_has_no_checkpoint() -> None:
    with pytest.raises(ValueError, match="nothing was committed"):
        checkpoint.encode(ModelState("m"))


def test_of_ten_thousand_versions_only_the_groups_asked_for_are_loaded() -> None:
    many = gathered([Version(number, "a" * 64, number, NOON + timedelta(seconds=number), "ana", "why") for number in range(1, 10_001)])
    state = ModelState("m", 10_000, "b" * 64, many, None, (), NOON)
    asked: list[int] = []
    load = stored(state)

    def counted(place: int, digest: str) -> bytes:
        asked.append(place)
        return load(place, digest)

    found = checkpoint.parse(checkpoint.encode(state)).state(counted).versions
    assert found[5_000] == many[5_000]
    after = found.with_version(Version(10_001, "c" * 64, 10_001, NOON, "ana", "new"))
    assert (len(after), after.newest, len(found)) == (10_001, 10_001, 10_000)
    assert asked == [5_000 // GROUP, 10_001 // GROUP]
    assert [place for place, group in after.groups.items() if not group.stored] == [10_001 // GROUP]
