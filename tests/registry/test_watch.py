"""A commit is noticed at once, whoever writes it and however new its model is; a wait can be ended from outside."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from registry.errors import ModelUnknownError, NotARegistryError
from registry.local_store import LocalStore
from registry.location import open_registry
from registry.registry import Registry
from registry.watch import InotifyWatcher, PollingWatcher, Watcher, follow, new_commits, watch
from tests.registry.helpers import ACTOR, MODEL, register

linux = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
MAKERS: dict[str, Callable[[Path], Watcher]] = {
    "polling": lambda root: PollingWatcher(LocalStore(root), 0.01),
    "watch": lambda root: watch(str(root)),
}


@pytest.fixture(params=sorted(MAKERS))
def make(request: pytest.FixtureRequest) -> Iterator[Callable[[Path], Watcher]]:
    """Makes watchers of one kind, and closes them."""
    made: list[Watcher] = []

    def maker(root: Path) -> Watcher:
        made.append(MAKERS[request.param](root))
        return made[-1]

    yield maker
    for watcher in made:
        watcher.close()


def settled(watcher: Watcher) -> None:
    while watcher.wait(0.05):
        pass


def test_a_commit_is_noticed_and_then_it_is_quiet(make: Callable[[Path], Watcher], registry: Registry, root: Path) -> None:
    register(registry)
    watcher = make(root)
    settled(watcher)
    registry.promote(MODEL, 1, to="production", actor=ACTOR, reason="go")
    assert watcher.wait(5)
    settled(watcher)
    assert not watcher.wait(0)


def test_the_first_commit_of_the_first_model_is_noticed(make: Callable[[Path], Watcher], registry: Registry, root: Path) -> None:
    watcher = make(root)
    register(registry)
    assert watcher.wait(5)
    settled(watcher)
    register(registry, 1, "log")  # a model may have any name
    assert watcher.wait(5)
    settled(watcher)
    registry.promote("log", 1, to="staging", actor=ACTOR, reason="go")
    assert watcher.wait(5)


@pytest.mark.parametrize("models", [20])
def test_no_model_made_while_another_is_being_noticed_is_missed(
    make: Callable[[Path], Watcher], registry: Registry, root: Path, models: int
) -> None:
    watcher = make(root)
    names = [f"m{number}" for number in range(models)]

    def write() -> None:
        for name in names:
            register(registry, 1, name)

    writer = threading.Thread(target=write)
    writer.start()
    reader, seen = open_registry(str(root)), set[str]()
    deadline = time.monotonic() + 20
    while seen != set(names) and time.monotonic() < deadline:
        assert watcher.wait(5), f"saw only {sorted(seen)}"
        seen = set(reader.models())
    writer.join()
    settled(watcher)
    for name in names:
        registry.promote(name, 1, to="staging", actor=ACTOR, reason="go")
        assert watcher.wait(5), f"{name} is not watched"
        settled(watcher)


@linux
def test_a_commit_of_another_process_is_noticed_within_50_ms(registry: Registry, root: Path) -> None:
    register(registry, 2)
    code = """
import sys, time
from registry.location import open_registry
registry = open_registry(sys.argv[1])
for number in range(10):
    sys.stdin.readline()
    registry.promote(sys.argv[2], 1 + number % 2, to="production", actor="x", reason="x")
    print(time.monotonic(), flush=True)
"""
    watcher = watch(str(root))
    assert isinstance(watcher, InotifyWatcher)
    reader = open_registry(str(root))
    writer = subprocess.Popen([sys.executable, "-c", code, str(root), MODEL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert writer.stdin is not None
    assert writer.stdout is not None
    delays = []
    for number in range(10):
        settled(watcher)
        writer.stdin.write("go\n")
        writer.stdin.flush()
        while reader.state(MODEL).seq < 3 + number:
            assert watcher.wait(5)
        seen = time.monotonic()
        delays.append(seen - float(writer.stdout.readline()))
    writer.communicate()
    watcher.close()
    assert sorted(delays)[5] < 0.05, delays


def test_nothing_new_is_false_after_the_time(make: Callable[[Path], Watcher], registry: Registry, root: Path) -> None:
    register(registry)
    watcher = make(root)
    settled(watcher)
    start = time.monotonic()
    assert not watcher.wait(0.2)
    assert 0.15 < time.monotonic() - start < 2


def test_close_ends_a_wait_in_another_thread(make: Callable[[Path], Watcher], registry: Registry, root: Path) -> None:
    register(registry)
    watcher = make(root)
    settled(watcher)
    threading.Timer(0.1, watcher.close).start()
    start = time.monotonic()
    assert not watcher.wait(30)
    assert time.monotonic() - start < 5
    watcher.close()
    assert not watcher.wait(30)


def test_a_model_or_a_registry_that_goes_away_and_comes_back_is_noticed(
    make: Callable[[Path], Watcher], registry: Registry, root: Path, tmp_path: Path
) -> None:
    register(registry)
    watcher = make(root)
    settled(watcher)
    shutil.copytree(root, tmp_path / "copy")
    shutil.rmtree(root)
    assert watcher.wait(5)
    settled(watcher)
    shutil.copytree(tmp_path / "copy", root)
    assert watcher.wait(5)
    settled(watcher)
    open_registry(str(root)).promote(MODEL, 1, to="staging", actor=ACTOR, reason="go")
    assert watcher.wait(5)


def test_what_is_no_registry_is_not_watched(tmp_path: Path) -> None:
    with pytest.raises(NotARegistryError):
        watch(str(tmp_path))


@linux
@pytest.mark.skipif("os.geteuid() != 0", reason="only root may lower the limit")
def test_where_the_limits_of_inotify_are_used_up_polling_takes_over(registry: Registry, root: Path) -> None:
    register(registry)
    code = """
import resource, sys
from registry.watch import PollingWatcher, watch
resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
held = []
while True:
    watcher = watch(sys.argv[1])
    held.append(watcher)
    if isinstance(watcher, PollingWatcher):
        print("polling", watcher.wait(0))
        break
"""
    out = subprocess.run([sys.executable, "-c", code, str(root)], check=True, capture_output=True, text=True)
    assert out.stdout == "polling False\n"


def test_a_storage_that_stops_answering_counts_as_a_change_so_that_the_reader_gets_the_error(registry: Registry, root: Path) -> None:
    register(registry)
    watcher = PollingWatcher(LocalStore(root), 0.01)
    log = root / "models"
    log.rename(root / "away")
    log.symlink_to(log)  # a loop: listing it is refused
    assert watcher.wait(5)
    watcher.close()


def test_new_commits_come_in_order_each_once_until_the_watcher_is_closed(
    make: Callable[[Path], Watcher], registry: Registry, root: Path
) -> None:
    register(registry, 2)
    watcher, reader = make(root), open_registry(str(root))
    seen: list[tuple[str, int]] = []

    def follow() -> None:
        seen.extend((entry.model, entry.seq) for entry in new_commits(reader, watcher, {MODEL: 1}))

    follower = threading.Thread(target=follow)
    follower.start()
    for number in range(20):
        registry.note(MODEL, actor=ACTOR, reason=f"{number}")
    register(registry, 3, "other")
    expected = [(MODEL, seq) for seq in range(2, 23)] + [("other", seq) for seq in (1, 2, 3)]
    deadline = time.monotonic() + 20
    while sorted(seen) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    watcher.close()
    follower.join()
    assert sorted(seen) == expected
    for model in (MODEL, "other"):
        assert [seq for name, seq in seen if name == model] == sorted(seq for name, seq in expected if name == model)


def test_new_commits_of_one_model_are_not_those_of_another(registry: Registry, root: Path) -> None:
    register(registry, 2)
    register(registry, 2, "other")
    watcher = PollingWatcher(LocalStore(root), 0.01)
    stream = new_commits(open_registry(str(root)), watcher, {}, "other")
    assert [next(stream).seq, next(stream).seq] == [1, 2]
    watcher.close()
    assert list(stream) == []


def test_a_poller_asks_for_the_next_commit_and_not_for_the_whole_log(registry: Registry, root: Path) -> None:
    register(registry, 10)
    asked: list[str] = []

    class Counting(LocalStore):
        def get(self, keys: Sequence[str]) -> list[bytes | None]:
            asked.extend(keys)
            return super().get(keys)

    watcher = PollingWatcher(Counting(root), 0.01)
    asked.clear()
    assert not watcher.wait(0)
    assert len(asked) == 2
    registry.note(MODEL, actor=ACTOR, reason="new")
    assert watcher.wait(1)


def test_to_follow_is_to_be_given_every_commit_from_now_on_or_from_a_number_on(registry: Registry, root: Path) -> None:
    register(registry, 2)
    everything = follow(open_registry(str(root)), after=0)
    assert [(entry.model, entry.seq) for entry in (next(everything), next(everything))] == [(MODEL, 1), (MODEL, 2)]
    everything.close()
    from_now_on = follow(open_registry(str(root)), MODEL)
    writer = threading.Timer(0.2, lambda: registry.note(MODEL, actor=ACTOR, reason="new"))
    writer.start()
    assert next(from_now_on).seq == 3
    writer.join()
    from_now_on.close()
    with pytest.raises(ModelUnknownError):
        next(follow(registry, "nobody"))
