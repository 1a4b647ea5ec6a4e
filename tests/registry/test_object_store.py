"""What only object stores do: they answer late, wrongly or not at all, and a writer still learns the truth, or that nobody knows it.

Between obstore and a real S3 stands a real proxy that fails as planned.
"""

import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from registry.errors import (
    AccessDeniedError,
    OutcomeUnknownError,
    StorageFullError,
    StoreError,
    UnreachableError,
)
from registry.object_store import Patience, open_bucket
from registry.store import TEMPORARY, get_one
from tests.registry.fault_proxy import RESET, Fault, FaultProxy, answers, faulty, landed
from tests.registry.object_storage import HASTY, ObjectStorage, one_line

MIB = 1 << 20
KEY = "models/m/log/1"
SLOW, SLOWER = Fault(after=1.0), Fault(after=2.0)
STEADY = Patience(pause=0.01)
LARGE = [bytes([number]) * MIB for number in range(12)]
COMPLETES_COPY, ITS_PARTS = f"{KEY}?uploadId=", f"{KEY}?partNumber="


class Lab:
    """A store behind a proxy, the proxy, and the same store without it."""

    def __init__(self, storage: ObjectStorage, proxy: FaultProxy, patch: pytest.MonkeyPatch) -> None:
        self.proxy, self.place = proxy, storage.place()
        self.direct = open_bucket(self.place)
        patch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        self.store = open_bucket(self.place, STEADY)

    def plan(self, method: str, *faults: Fault, on: str = "") -> None:
        """See `FaultProxy.plan`. A store that will be kept waiting gets less patience: others must not fail because a machine is busy."""
        self.proxy.plan(method, *faults, on=on)
        if any(fault.after for fault in faults):
            self.store = open_bucket(self.place, HASTY)

    def puts(self) -> int:
        """How many times the value was sent."""
        return self.proxy.count("PUT", KEY)


@pytest.fixture
def lab(object_storage: ObjectStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    with faulty(object_storage.port) as proxy:
        yield Lab(object_storage, proxy, monkeypatch)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Nothing in this module takes longer, whatever fails."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("faults", "puts"),
    [
        pytest.param([answers(409, "ConditionalRequestConflict")], 2, id="409, nothing landed: S3 says try again"),
        pytest.param([answers(409, "ConditionalRequestConflict")] * 3, 4, id="409 three times"),
        pytest.param([answers(412, "PreconditionFailed")], 2, id="412, but there is nothing"),
        pytest.param([answers(500, "InternalError")], 2, id="500, not landed"),
        pytest.param([landed(answers(500, "InternalError"))], 2, id="500, landed"),
        pytest.param(
            [answers(503, "SlowDown"), answers(503, "SlowDown"), landed(answers(503, "SlowDown"))], 4, id="503 three times, landed"
        ),
        pytest.param([answers(429, "TooManyRequests")], 2, id="429"),
        pytest.param([RESET], 2, id="reset, not landed"),
        pytest.param([landed(RESET)], 2, id="reset, landed"),
        pytest.param([landed(RESET), answers(409)], 2, id="reset, landed, then 409"),
        pytest.param([SLOW], 2, id="no answer in time, not landed"),
        pytest.param([landed(SLOW)], 2, id="no answer in time, landed"),
        pytest.param([landed(answers(500)), landed(SLOW), RESET], 4, id="all of it"),
        pytest.param([landed(answers(502))] * 4, 4, id="landed, never a clear answer, looked up"),
    ],
)
def test_our_value_is_reported_as_ours_whatever_the_answer_was(lab: Lab, faults: list[Fault], puts: int) -> None:
    lab.plan("PUT", *faults)
    assert lab.store.put_if_absent(KEY, [b"ours"])
    assert get_one(lab.direct, KEY) == b"ours"
    assert lab.puts() == puts
    assert not lab.store.put_if_absent(KEY, [b"ours"])


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(answers(409, "ConditionalRequestConflict"), id="409"),
        pytest.param(answers(500, "InternalError"), id="500"),
        pytest.param(RESET, id="reset"),
        pytest.param(SLOW, id="no answer in time"),
    ],
)
def test_another_writer_who_is_faster_is_not_mistaken_for_us(lab: Lab, fault: Fault) -> None:
    def rival() -> None:
        assert lab.direct.put_if_absent(KEY, [b"theirs"])

    lab.plan("PUT", Fault(status=fault.status, code=fault.code, cut=fault.cut, after=fault.after, meanwhile=rival))
    assert not lab.store.put_if_absent(KEY, [b"ours"])
    assert get_one(lab.direct, KEY) == b"theirs"


def test_who_is_refused_because_the_key_exists_asks_once_and_looks_once(lab: Lab) -> None:
    lab.direct.put_if_absent(KEY, [b"theirs"])
    assert not lab.store.put_if_absent(KEY, [b"ours"])
    assert lab.proxy.requests == [f"PUT {path(lab)}", f"HEAD {path(lab)}"]


def path(lab: Lab) -> str:
    return f"{lab.place.removeprefix('s3:/')}/{KEY}"


@pytest.mark.parametrize(
    ("fault", "error", "says", "puts"),
    [
        (answers(409, "ConditionalRequestConflict"), UnreachableError, "because of other writers .*: try again, nothing was changed", 4),
        (answers(429, "TooManyRequests"), UnreachableError, "is busy .*: try again later, nothing was changed", 4),
        (answers(403, "AccessDenied"), AccessDeniedError, r"denies access \(403 AccessDenied\): check the credentials", 1),
        (answers(401, "Unauthorized"), AccessDeniedError, "denies access", 1),
        (answers(400, "ExpiredToken"), AccessDeniedError, "denies access", 1),
        (answers(400, "InvalidRequest"), StoreError, r"refuses the request \(400 InvalidRequest\): check .*, nothing was changed", 1),
        (answers(403, "QuotaExceeded"), StorageFullError, "is full .*: free some space and try again, nothing was changed", 1),
        (answers(404, "NoSuchBucket"), StoreError, "there is no such bucket", 1),
    ],
    ids=lambda value: f"{value.status} {value.code}" if isinstance(value, Fault) else "",
)
def test_what_was_refused_for_certain_says_so_and_what_to_do(lab: Lab, fault: Fault, error: type[StoreError], says: str, puts: int) -> None:
    lab.plan("PUT", *[fault] * 10)
    with pytest.raises(StoreError) as caught:
        lab.store.put_if_absent(KEY, [b"ours"])
    assert type(caught.value) is error
    assert re.search(f"^cannot write {KEY}: .*{says}", one_line(caught.value))
    assert lab.puts() == puts
    assert get_one(lab.direct, KEY) is None


@pytest.mark.parametrize("fault", [answers(503, "SlowDown"), RESET, SLOW], ids=["503", "reset", "no answer in time"])
def test_what_nobody_can_know_is_said_to_be_unknown(lab: Lab, fault: Fault) -> None:
    lab.plan("PUT", *[fault] * 10)
    with pytest.raises(OutcomeUnknownError, match=f"^cannot tell whether {KEY} was written: the object store .*: look before") as caught:
        lab.store.put_if_absent(KEY, [b"ours"])
    one_line(caught.value)
    assert lab.puts() <= 4


def test_a_store_that_dies_after_a_write_leaves_its_outcome_unknown(lab: Lab) -> None:
    lab.plan("PUT", Fault(lands=True, cut=0, meanwhile=lab.proxy.close))
    with pytest.raises(OutcomeUnknownError, match="look before trying again"):
        lab.store.put_if_absent(KEY, [b"ours"])
    assert get_one(lab.direct, KEY) == b"ours"


def test_a_refusal_after_doubt_is_no_certainty(lab: Lab) -> None:
    lab.plan("PUT", landed(answers(500)), answers(403, "AccessDenied"))
    assert lab.store.put_if_absent(KEY, [b"ours"])
    lab.plan("PUT", answers(500), answers(403, "AccessDenied"))
    with pytest.raises(OutcomeUnknownError):
        lab.store.put_if_absent(f"{KEY}1", [b"ours"])


@pytest.mark.parametrize("seed", range(2))
def test_of_six_threads_on_a_bad_line_at_most_one_wins_each_key_and_no_win_is_lost(lab: Lab, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 -- repeatable
    harmless = [landed(Fault()), answers(409), answers(500), landed(answers(500)), RESET, landed(RESET), answers(503)]
    lab.plan("PUT", *(dice.choices(harmless, [20, 1, 1, 1, 1, 1, 1], k=400)))
    wins: dict[str, list[bytes]] = {}
    unknown: set[str] = set()

    def write(me: int) -> None:
        for number in range(10):
            key, value = f"log/{number}", f"{me}-{number}".encode()
            try:
                if lab.store.put_if_absent(key, [value]):
                    wins.setdefault(key, []).append(value)
            except OutcomeUnknownError:
                unknown.add(key)

    threads = [threading.Thread(target=write, args=(me,)) for me in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in (f"log/{number}" for number in range(10)):
        assert len(wins.get(key, [])) == 1 or key in unknown, f"seed {seed}: {key} {wins.get(key)}"
        assert wins.get(key, [None])[0] in {None, get_one(lab.direct, key)}


@pytest.mark.parametrize(
    ("method", "on", "faults"),
    [
        pytest.param("POST", COMPLETES_COPY, [answers(500, "InternalError")], id="500 at the end of the copy"),
        pytest.param("POST", COMPLETES_COPY, [landed(answers(500, "InternalError"))], id="500 at the end of the copy, landed"),
        pytest.param("POST", COMPLETES_COPY, [landed(RESET)], id="reset at the end of the copy, landed"),
        pytest.param("POST", COMPLETES_COPY, [landed(SLOWER)], id="no answer in time at the end of the copy, landed"),
        pytest.param("POST", COMPLETES_COPY, [answers(409, "ConditionalRequestConflict")], id="409 at the end of the copy"),
        pytest.param("POST", COMPLETES_COPY, [landed(answers(500)), answers(412)], id="500 at the end of the copy, landed, then 412"),
        pytest.param("PUT", ITS_PARTS, [RESET], id="reset while copying"),
        pytest.param("PUT", TEMPORARY, [answers(503, "SlowDown")], id="503 for a part"),
        pytest.param("POST", TEMPORARY, [answers(503, "SlowDown")], id="503 at the begin of the upload"),
        pytest.param("POST", "?delete", [answers(403, "AccessDenied")], id="403 for the removal of the temporary value"),
    ],
)
def test_a_large_value_is_ours_whatever_the_answers_were(lab: Lab, method: str, on: str, faults: list[Fault]) -> None:
    lab.plan(method, *faults, on=on)
    assert lab.store.put_if_absent(KEY, LARGE)
    assert get_one(lab.direct, KEY) == b"".join(LARGE)
    assert {entry.key for entry in lab.direct.entries() if not entry.unfinished} == {KEY}


def test_a_store_that_copies_if_absent_in_its_own_way_is_asked_in_that_way(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_COPY_IF_NOT_EXISTS", "header:x-copy-if-absent:yes")
    assert open_bucket(lab.place).put_if_absent(KEY, LARGE)
    assert get_one(lab.direct, KEY) == b"".join(LARGE)
    assert (lab.proxy.count("PUT", path(lab)), lab.proxy.count("POST", COMPLETES_COPY)) == (1, 0)


def test_another_writer_of_a_large_value_who_is_faster_is_not_mistaken_for_us(lab: Lab) -> None:
    def rival() -> None:
        assert lab.direct.put_if_absent(KEY, [b"theirs"])

    lab.plan("POST", Fault(status=500, meanwhile=rival), on=COMPLETES_COPY)
    assert not lab.store.put_if_absent(KEY, LARGE)
    assert get_one(lab.direct, KEY) == b"theirs"
    assert [entry.key for entry in lab.direct.entries()] == [KEY]


def test_a_large_value_that_exists_is_not_sent_again(lab: Lab) -> None:
    lab.direct.put_if_absent(KEY, [b"theirs"])
    assert not lab.store.put_if_absent(KEY, LARGE)
    assert lab.proxy.requests == [f"HEAD {path(lab)}"]


def test_an_upload_that_fails_leaves_no_key_and_no_hidden_parts(lab: Lab, object_storage: ObjectStorage) -> None:
    lab.plan("PUT", *[answers(503, "SlowDown")] * 20, on="partNumber=2")
    with pytest.raises(UnreachableError, match=f"^cannot write {KEY}: .*503 SlowDown.*nothing was changed$") as caught:
        lab.store.put_if_absent(KEY, LARGE)
    one_line(caught.value)
    assert list(lab.direct.entries()) == []
    assert object_storage.uploads() == []


@pytest.mark.parametrize("broke", [KeyError("the source broke"), KeyboardInterrupt(), OSError("no such file")])
def test_a_source_that_breaks_in_the_middle_of_an_upload_leaves_no_key_and_no_hidden_parts(
    lab: Lab, object_storage: ObjectStorage, broke: BaseException
) -> None:
    def chunks() -> Iterator[bytes]:
        yield from LARGE * 2
        raise broke

    with pytest.raises(type(broke)) as caught:
        lab.store.put_if_absent(KEY, chunks())
    assert caught.value is broke
    assert lab.proxy.count("PUT", "partNumber=1") == 1
    assert list(lab.direct.entries()) == []
    assert object_storage.uploads() == []


def test_a_writer_that_is_killed_leaves_at_most_an_unfinished_value(lab: Lab) -> None:
    upload = f"""
import sys
from registry.object_store import Patience, open_bucket
open_bucket({lab.place!r}).put_if_absent({KEY!r}, [bytes(1 << 20)] * 12)
"""
    lab.plan("POST", Fault(after=60), on=COMPLETES_COPY)
    writer = subprocess.Popen([sys.executable, "-c", upload])
    while lab.proxy.count("POST", COMPLETES_COPY) == 0:
        assert writer.poll() is None
        time.sleep(0.02)
    writer.kill()
    writer.wait()
    assert [(entry.unfinished, entry.size) for entry in lab.direct.entries()] == [(True, 12 * MIB)]
    assert get_one(lab.direct, KEY) is None
    for entry in list(lab.direct.entries()):
        lab.direct.delete(entry.key)


def test_one_object_store_can_be_copied_into_another(lab: Lab, object_storage: ObjectStorage) -> None:
    lab.direct.put_if_absent(KEY, LARGE)
    other = open_bucket(object_storage.place())
    assert other.put_if_absent(KEY, lab.direct.open(KEY) or ())
    assert get_one(other, KEY) == b"".join(LARGE)


@pytest.mark.parametrize(
    "fault",
    [answers(500), landed(answers(500)), landed(RESET), landed(SLOWER), answers(409)],
    ids=["500", "500, landed", "reset, landed", "no answer in time, landed", "409"],
)
def test_a_value_is_moved_once_whatever_the_answer_was(lab: Lab, fault: Fault) -> None:
    lab.direct.put_if_absent(KEY, [b"ours"])
    lab.plan("POST", fault, on=COMPLETES_COPY)
    assert lab.store.move(next(lab.direct.entries()), f"trash/{KEY}")
    assert [entry.key for entry in lab.direct.entries()] == [f"trash/{KEY}"]
    assert get_one(lab.direct, f"trash/{KEY}") == b"ours"


@pytest.mark.parametrize(
    "fault", [answers(500), answers(503), RESET, SLOW, landed(Fault(cut=0.5))], ids=["500", "503", "reset", "slow", "half"]
)
def test_a_read_that_fails_once_is_made_again(lab: Lab, fault: Fault) -> None:
    value = bytes(range(256)) * 10_000
    lab.direct.put_if_absent(KEY, [value])
    lab.plan("GET", fault)
    assert get_one(lab.store, KEY) == value
    lab.plan("GET", fault)
    assert b"".join(lab.store.open(KEY) or ()) == value
    assert lab.proxy.count("GET") == 4


def test_a_prefix_is_a_folder_and_holds_nothing_of_its_neighbours(object_storage: ObjectStorage) -> None:
    place = object_storage.place()
    urls = [place, f"{place}-2", f"{place}/inner", f"{place} %20/ü"]
    for url in urls:
        assert open_bucket(url).put_if_absent("k/v", [url.encode()])
    assert [get_one(open_bucket(f"{url}/"), "k/v") for url in urls] == [url.encode() for url in urls]
    assert sorted(open_bucket(place).list("")) == ["inner/", "k/"]
    assert sorted(entry.key for entry in open_bucket(place).entries()) == ["inner/k/v", "k/v"]
    bucket = open_bucket("/".join(place.split("/")[:3]))
    assert get_one(bucket, f"{place.split('/', 3)[3]}/k/v") == place.encode()
    assert {f"{place.split('/')[3]}/"} <= set(bucket.list(""))


def test_a_folder_that_a_console_made_is_no_key(object_storage: ObjectStorage) -> None:
    place = object_storage.place()
    store = open_bucket(place)
    store.put_if_absent("models/a", [b"x"])
    object_storage.make_folder(f"{place.split('/', 3)[3]}/models/")
    assert list(store.list("models/")) == ["models/a"]
    assert list(store.list("")) == ["models/"]


def test_a_value_of_200_mib_is_written_and_read_in_far_less_memory(object_storage: ObjectStorage) -> None:
    place = object_storage.place()
    measured = """
import hashlib, sys
from registry.object_store import Patience, open_bucket
def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) // 1024
store = open_bucket(sys.argv[1])
store.put_if_absent("small", [bytes(8 << 20)])
store.get(["small"])
before = peak()
"""
    put = f'{measured}assert store.put_if_absent("large", (bytes([n]) * (1 << 20) for n in range(200)))\nprint(peak() - before)'
    read = f'{measured}print(sum(map(len, store.open("large"))), peak() - before)'
    assert int(run(put, place)) < 60
    size, used = run(read, place).split()
    assert int(size) == 200 * MIB
    assert int(used) < 30
    open_bucket(place).delete("large")


def run(code: str, *arguments: str) -> str:
    return subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True).stdout
