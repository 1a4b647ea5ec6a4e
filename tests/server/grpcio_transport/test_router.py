"""Who answers a key: the shares asked for, the same version every time, and the documented formula to the letter."""

import hashlib
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.bundle import Signature
from server.errors import ModelLoadingError, VersionUnknownError
from server.grpcio_transport import router
from server.loaded_version import LoadedVersion
from server.routing import RoutingTable, ServedModel
from tests.server.grpcio_transport.test_batcher import GatedEngine

KEYS = [f"customer-{number}" for number in range(20_000)]


def by_the_documentation(model: str, split: dict[int, int], stable: int, key: str) -> int:
    """The formula, written down a second time: 100 slots, canaries from 0 up by number, the rest is the stable version's."""
    slots = [number for number in sorted(split) if number != stable for _ in range(split[number])]
    slots += [stable] * (100 - len(slots))
    return slots[int(hashlib.sha256(model.encode() + b"\0" + key.encode()).hexdigest()[:16], 16) % 100]


@st.composite
def splits(draw: st.DrawFn) -> tuple[dict[int, int], int]:
    numbers = draw(st.lists(st.integers(1, 50), min_size=1, max_size=5, unique=True))
    cuts = sorted(draw(st.lists(st.integers(1, 99), min_size=len(numbers) - 1, max_size=len(numbers) - 1, unique=True)))
    weights = [end - start for start, end in zip([0, *cuts], [*cuts, 100], strict=True)]
    return dict(zip(numbers, weights, strict=True)), draw(st.sampled_from(numbers))


@given(st.text(max_size=20), splits(), st.text(max_size=40))
def test_assignment_is_the_documented_formula(model: str, split: tuple[dict[int, int], int], key: str) -> None:
    assert router.assigned(model, split[0], split[1], key) == by_the_documentation(model, *split, key)


def test_known_keys_stay_where_they_are_for_ever() -> None:
    split = {3: 60, 4: 30, 7: 10}
    assert [router.assigned("fraud", split, 3, key) for key in ("a", "b", "c", "customer-1", "")] == [7, 4, 3, 3, 7]


def test_shares_are_those_of_the_split() -> None:
    split = {1: 70, 2: 25, 3: 5}
    answered = [router.assigned("m", split, 1, key) for key in KEYS]
    for number, percent in split.items():
        share = answered.count(number) / len(KEYS)
        assert abs(share - percent / 100) < 4 * (percent / 100 * (1 - percent / 100) / len(KEYS)) ** 0.5, number


@pytest.mark.parametrize("later", [6, 50, 100])
def test_growing_canary_keeps_its_keys(later: int) -> None:
    first = {key for key in KEYS if router.assigned("m", {1: 95, 2: 5}, 1, key) == 2}
    grown = {key for key in KEYS if router.assigned("m", {1: 100 - later, 2: later}, 1, key) == 2}
    assert first <= grown


def test_two_models_split_the_same_keys_differently() -> None:
    one, other = ([router.assigned(model, {1: 50, 2: 50}, 1, key) for key in KEYS] for model in ("m", "n"))
    assert 0.45 < sum(a == b for a, b in zip(one, other, strict=True)) / len(KEYS) < 0.55


def table(split: dict[int, int], shadows: tuple[int, ...] = (), loaded: tuple[int, ...] = (1, 2, 3)) -> RoutingTable:
    engine = GatedEngine()
    versions = {number: LoadedVersion("m", number, "", Signature((), ()), engine, None, 0.0) for number in loaded}
    served = ServedModel(
        MappingProxyType(versions), MappingProxyType({"production": 1, "staging": 2}), (1, 2, 3, 4), MappingProxyType(split), shadows
    )
    return RoutingTable(MappingProxyType({"m": served}), complete=True)


def test_arms_are_told_and_only_production_has_shadows() -> None:
    routes = table({1: 50, 2: 50}, (3,))
    canary = next(key for key in KEYS if by_the_documentation("m", {1: 50, 2: 50}, 1, key) == 2)
    stable = next(key for key in KEYS if by_the_documentation("m", {1: 50, 2: 50}, 1, key) == 1)
    for label, key, number, arm, shadows in [
        ("", stable, 1, "stable", (3,)),
        ("production", canary, 2, "canary", (3,)),
        ("1", canary, 1, router.DIRECT, ()),
        ("staging", canary, 2, router.DIRECT, ()),
    ]:
        choice = router.pick(routes, "m", label, key)
        assert (choice.version.number, choice.arm, tuple(shadow.number for shadow in choice.shadows)) == (number, arm, shadows)


def test_without_a_split_the_stable_version_answers_every_key() -> None:
    assert {router.pick(table({}), "m", "", key).version.number for key in KEYS[:100]} == {1}


def test_version_that_is_not_loaded_or_not_there_is_refused() -> None:
    with pytest.raises(ModelLoadingError):
        router.pick(table({}, loaded=(2,)), "m", "", "key")
    with pytest.raises(VersionUnknownError):
        router.pick(table({}), "m", "9", "key")
