"""What `registry.store` promises, held against every store there is: a folder, and a bucket of a real S3."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.local_store import LocalStore
from registry.object_store import open_bucket
from registry.store import TEMPORARY, Entry, Sweepable, get_one

MIB = 1 << 20
LARGE = 20 * MIB
MANY = 1_100  # an object store lists 1,000 in one answer
UNFINISHED = f"a/{TEMPORARY}0123456789abcdef"
CLOCKS = timedelta(seconds=5)  # how far a storage's clock, which may count in seconds, is from ours

NewStore: TypeAlias = Callable[[], Sweepable]


@pytest.fixture(scope="module", params=["local", "s3"])
def new_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewStore:
    """Makes an empty store."""
    if request.param == "local":
        return lambda: LocalStore(tmp_path_factory.mktemp("store"))
    storage = request.getfixturevalue("object_storage")
    return lambda: open_bucket(storage.place())


@pytest.fixture
def store(new_store: NewStore) -> Sweepable:
    return new_store()


def filled(store: Sweepable, *keys: str) -> Sweepable:
    """The store with values that are their keys."""
    for key in keys:
        assert store.put_if_absent(key, [key.encode()])
    return store


def entry(store: Sweepable, key: str) -> Entry:
    return next(entry for entry in store.entries() if entry.key == key)


def keys(store: Sweepable) -> set[str]:
    return {entry.key for entry in store.entries() if not entry.unfinished}


def at_once(threads: int, work: Callable[[int], object]) -> None:
    """Run `work` in so many threads that start together; raises what one raises."""
    start = threading.Barrier(threads)

    def begin(me: int) -> None:
        start.wait()
        work(me)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(begin, range(threads)))


def test_a_value_is_its_chunks_concatenated(store: Sweepable) -> None:
    assert store.put_if_absent("a/b/c", [b"one", b"", b" two"])
    assert store.get(["a/b/c"]) == [b"one two"]


def test_a_key_that_exists_keeps_its_value(store: Sweepable) -> None:
    filled(store, "a/b")
    before = entry(store, "a/b")
    for chunks in ([b"another"], [b"a/b"], [], [bytes(9 * MIB)]):
        assert not store.put_if_absent("a/b", chunks)
    assert get_one(store, "a/b") == b"a/b"
    assert entry(store, "a/b").size == before.size
    assert [entry.key for entry in store.entries()] == ["a/b"]


@pytest.mark.parametrize("chunks", [[], [b""]], ids=["no chunk", "an empty chunk"])
def test_an_empty_value_is_a_value(store: Sweepable, chunks: list[bytes]) -> None:
    assert store.put_if_absent("a", chunks)
    assert get_one(store, "a") == b""
    parts = store.open("a")
    assert parts is not None
    assert b"".join(parts) == b""
    assert not store.put_if_absent("a", chunks)


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB + 1, LARGE + 7])
def test_a_large_value_is_stored_whole_and_leaves_nothing_beside_it(store: Sweepable, size: int) -> None:
    value = bytes(range(251)) * (size // 251 + 1)
    chunks = (value[start : min(start + 700_001, size)] for start in range(0, size, 700_001))
    assert store.put_if_absent("a/large", chunks)
    assert get_one(store, "a/large") == value[:size]
    assert [(entry.key, entry.size) for entry in store.entries()] == [("a/large", size)]
    assert not store.put_if_absent("a/large", [bytes(size)])
    assert [(entry.key, entry.size) for entry in store.entries()] == [("a/large", size)]


class SourceBrokeError(FileNotFoundError):
    """What the chunks raise; a kind that storage raises too."""


@pytest.mark.parametrize("good", [0, 1, 9, 20])
def test_what_the_chunks_raise_passes_unchanged_and_the_key_does_not_exist(store: Sweepable, good: int) -> None:
    broke = SourceBrokeError("the source broke")

    def chunks() -> Iterator[bytes]:
        yield from [bytes(MIB)] * good
        raise broke

    with pytest.raises(SourceBrokeError) as caught:
        store.put_if_absent("a/b", chunks())
    assert caught.value is broke
    assert store.get(["a/b"]) == [None]
    assert keys(store) == set()
    assert list(store.list("a/")) == []
    assert store.put_if_absent("a/b", [b"later"])


def test_an_interrupted_source_leaves_no_key(store: Sweepable) -> None:
    def chunks() -> Iterator[bytes]:
        yield bytes(9 * MIB)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put_if_absent("a/b", chunks())
    assert keys(store) == set()


def test_nothing_is_visible_while_a_value_is_being_written(store: Sweepable) -> None:
    seen: list[object] = []

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(MIB)
        seen.extend([store.get(["a/b"]), keys(store), list(store.list("a/"))])

    assert store.put_if_absent("a/b", chunks())
    assert seen == [[None], set(), []]
    assert list(store.list("a/")) == ["a/b"]


def test_of_16_threads_that_put_50_keys_exactly_one_wins_each_and_who_loses_can_read_the_winners_value(store: Sweepable) -> None:
    wins: list[tuple[int, int]] = []
    lost: list[tuple[int, bytes | None]] = []

    def write(me: int) -> None:
        for number in range(50):
            won = store.put_if_absent(f"log/{number}", [f"{me}".encode() * 100])
            wins.extend([(number, me)] * won)
            if not won:
                lost.append((number, get_one(store, f"log/{number}")))

    at_once(16, write)
    assert sorted(number for number, _ in wins) == list(range(50))
    values = {number: f"{me}".encode() * 100 for number, me in wins}
    assert all(values[number] == value for number, value in lost)
    assert len(lost) == 15 * 50
    assert store.get([f"log/{number}" for number in range(50)]) == [values[number] for number in range(50)]


def test_of_four_threads_that_put_one_large_value_exactly_one_wins(store: Sweepable) -> None:
    wins: list[int] = []
    at_once(4, lambda me: wins.extend([me] * store.put_if_absent("a/large", [bytes([me]) * MIB] * 9)))
    assert len(wins) == 1
    assert get_one(store, "a/large") == bytes(wins) * (9 * MIB)
    assert [entry.key for entry in store.entries()] == ["a/large"]


def test_many_values_come_in_the_order_of_their_keys_with_none_for_holes(store: Sweepable) -> None:
    filled(store, *(f"log/{number}" for number in range(0, 100, 3)))
    wanted = [99, *range(100), 0]
    assert store.get([f"log/{number}" for number in wanted]) == [None if number % 3 else f"log/{number}".encode() for number in wanted]


def test_no_keys_have_no_values(store: Sweepable) -> None:
    assert list(store.get([])) == []


@pytest.mark.parametrize("key", ["a", "a/", "a/b/c", "a/b/", "b", "a/bb", "a/b/c/d"])
def test_what_is_no_key_has_no_value(store: Sweepable, key: str) -> None:
    filled(store, "a/b")
    if not key.endswith("/"):  # keys never do
        assert store.get([key, "a/b"]) == [None, b"a/b"]
        assert store.open(key) is None


def test_values_are_read_from_a_thread_whose_event_loop_runs(store: Sweepable) -> None:
    filled(store, "a", "b")

    async def read() -> object:
        return store.get(["a", "b", "c"])

    assert asyncio.run(read()) == [b"a", b"b", None]


@pytest.mark.parametrize("key", ["a%20b", "a%2Fb", "%25/%", "a b", "a+b", "a..b/..c", "A.a/-_~", "ü/日", "a&b=c;d", "x" * 200])
def test_a_key_is_stored_under_its_own_name(store: Sweepable, key: str) -> None:
    filled(store, key)
    assert get_one(store, key) == key.encode()
    assert keys(store) == {key}
    folder, slash, _ = key.rpartition("/")
    assert list(store.list(folder + slash)) == [key]
    store.delete(key)
    assert keys(store) == set()


def test_a_value_is_read_in_parts_that_fit_into_memory(store: Sweepable) -> None:
    value = bytes(range(256)) * (LARGE // 256)
    store.put_if_absent("a", [value])
    sizes, whole = [], bytearray()
    for part in store.open("a") or ():
        sizes.append(len(part))
        whole += part
    assert whole == value
    assert max(sizes) <= 4 * MIB


def test_a_value_that_is_not_read_to_its_end_harms_nobody(store: Sweepable) -> None:
    store.put_if_absent("a", [bytes(LARGE)])
    parts = store.open("a")
    assert parts
    assert next(parts)
    del parts
    assert store.open("absent") is None
    assert store.get(["a"]) == [bytes(LARGE)]


def test_one_level_is_listed_keys_and_the_prefixes_that_hold_more(store: Sweepable) -> None:
    filled(store, "top", "models/a/log/1", "models/a/log/2", "models/a/note", "models/ab/log/1", "models/a-b", "modelsx/y")
    assert sorted(store.list("")) == ["models/", "modelsx/", "top"]
    assert sorted(store.list("models/")) == ["models/a-b", "models/a/", "models/ab/"]
    assert sorted(store.list("models/a/")) == ["models/a/log/", "models/a/note"]
    assert sorted(store.list("models/a/log/")) == ["models/a/log/1", "models/a/log/2"]
    assert list(store.list("models/absent/")) == []
    assert list(store.list("models/a/note/")) == []


def test_a_folder_of_more_than_a_thousand_keys_is_listed_whole(store: Sweepable) -> None:
    names = [f"log/{number:020}.json" for number in range(MANY)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda name: store.put_if_absent(name, [b"x"]), names))
    assert sorted(store.list("log/")) == names
    assert sorted(store.list("")) == ["log/"]
    assert sorted(entry.key for entry in store.entries()) == names
    assert list(store.get(names)) == [b"x"] * MANY


def test_what_is_unfinished_is_no_key_but_is_an_entry(store: Sweepable) -> None:
    filled(store, UNFINISHED, "a/b", f"{TEMPORARY}fedcba9876543210")
    assert list(store.list("a/")) == ["a/b"]
    assert list(store.list("")) == ["a/"]
    assert {(entry.key, entry.unfinished) for entry in store.entries()} == {
        (UNFINISHED, True),
        ("a/b", False),
        (f"{TEMPORARY}fedcba9876543210", True),
    }


def test_entries_are_everything_with_size_and_date(store: Sweepable) -> None:
    assert list(store.entries()) == []
    before = datetime.now(UTC)
    filled(store, "top", "b/c/d", "b/cc", UNFINISHED)
    assert sorted((entry.key, entry.size) for entry in store.entries()) == sorted(
        (key, len(key)) for key in ("top", "b/c/d", "b/cc", UNFINISHED)
    )
    for found in store.entries():
        assert found.modified.tzinfo is UTC or found.modified.utcoffset() == timedelta(0)
        assert before - CLOCKS <= found.modified <= datetime.now(UTC) + CLOCKS


def test_a_moved_value_has_its_new_key_only(store: Sweepable) -> None:
    filled(store, "a/b", "a/bb")
    assert store.move(entry(store, "a/b"), "trash/a/b")
    assert keys(store) == {"trash/a/b", "a/bb"}
    assert store.get(["a/b", "trash/a/b"]) == [None, b"a/b"]
    assert store.put_if_absent("a/b", [b"again"])
    filled(store, UNFINISHED)
    assert store.move(entry(store, UNFINISHED), "trash/x")
    assert get_one(store, "trash/x") == UNFINISHED.encode()


def test_a_large_value_can_be_moved(store: Sweepable) -> None:
    value = bytes(range(256)) * (LARGE // 256)
    store.put_if_absent("a", [value])
    assert store.move(entry(store, "a"), "b/c")
    assert [(entry.key, entry.size) for entry in store.entries()] == [("b/c", LARGE)]
    assert get_one(store, "b/c") == value


def test_a_value_is_not_moved_onto_another(store: Sweepable) -> None:
    filled(store, "a", "trash/a")
    assert not store.move(entry(store, "a"), "trash/a")
    assert not store.move(entry(store, "a"), "a")
    assert store.get(["a", "trash/a"]) == [b"a", b"trash/a"]


@pytest.mark.parametrize("key", ["a/1", "a/2", "a/3"])
def test_of_eight_threads_that_move_a_value_one_does_and_it_is_there_once(store: Sweepable, key: str) -> None:
    listed = entry(filled(store, key), key)
    moved: list[bool] = []
    at_once(8, lambda _: moved.append(store.move(listed, f"trash/{key}")))
    assert sum(moved) == 1
    assert keys(store) == {f"trash/{key}"}


def test_what_is_gone_or_was_written_anew_is_not_moved(store: Sweepable) -> None:
    filled(store, "a")
    listed = entry(store, "a")
    store.delete("a")
    assert not store.move(listed, "b")
    assert store.put_if_absent("a", [b"another value"])
    assert not store.move(listed, "b")
    assert [(entry.key, entry.size) for entry in store.entries()] == [("a", len(b"another value"))]


def test_what_was_relied_upon_is_not_moved_if_the_storage_can_tell(store: Sweepable) -> None:
    filled(store, "a")
    listed = entry(store, "a")
    assert not store.put_if_absent("a", [b"a"])
    moved = store.move(listed, "b")
    assert store.get(["a", "b"]) == ([None, b"a"] if moved else [b"a", None])
    assert not (moved and isinstance(store, LocalStore))


def test_a_deleted_value_is_gone_and_deleting_it_again_does_nothing(store: Sweepable) -> None:
    filled(store, "a/b", "a/bb", UNFINISHED)
    for _ in range(2):
        store.delete("a/b")
        store.delete(UNFINISHED)
        store.delete("absent/key")
    assert [entry.key for entry in store.entries()] == ["a/bb"]
    assert store.put_if_absent("a/b", [b"new"])


KEYS = st.sampled_from(["a", "b/c", "b/cc", "b/c.d/e", "f/g/h"])
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), KEYS, st.lists(st.binary(max_size=3), max_size=3)),
    st.tuples(st.just("break"), KEYS, st.lists(st.binary(max_size=3), max_size=3)),
    st.tuples(st.just("delete"), KEYS, st.none()),
    st.tuples(st.just("move"), KEYS, KEYS),
)


@settings(max_examples=25)
@given(operations=st.lists(OPERATIONS, max_size=25))
def test_any_sequence_of_operations_does_what_a_dict_would(new_store: NewStore, operations: list[tuple[str, str, object]]) -> None:
    store, model = new_store(), dict[str, bytes]()
    for what, key, argument in operations:
        apply(store, model, what, key, argument)
        assert store.get([*sorted(model), "absent"]) == [model[key] for key in sorted(model)] + [None]
    assert {entry.key: entry.size for entry in store.entries()} == {key: len(value) for key, value in model.items()}
    for prefix in ("", "b/", "b/c/", "f/", "f/g/"):
        below = [key.removeprefix(prefix) for key in model if key.startswith(prefix)]
        there = {prefix + name.partition("/")[0] + "/" * ("/" in name) for name in below}
        assert there <= set(store.list(prefix))
        assert all(name.endswith("/") and isinstance(store, LocalStore) for name in set(store.list(prefix)) - there)


def apply(store: Sweepable, model: dict[str, bytes], what: str, key: str, argument: object) -> None:
    """Do to the store and to the model the same."""
    if what == "move":
        found = next((entry for entry in store.entries() if entry.key == key), None)
        if found and isinstance(argument, str):
            moved = store.move(found, argument)
            assert moved is (argument not in model)
            model.update({argument: model.pop(key)} if moved else {})
    elif what == "delete":
        store.delete(key)
        model.pop(key, None)
    elif what == "break":
        with suppress(SourceBrokeError):
            assert not store.put_if_absent(key, broken(argument))
    elif isinstance(argument, list):
        assert store.put_if_absent(key, argument) is (key not in model)
        model.setdefault(key, b"".join(argument))


def broken(chunks: object) -> Iterator[bytes]:
    if isinstance(chunks, list):
        yield from chunks
    raise SourceBrokeError
