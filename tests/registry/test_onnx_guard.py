"""The guard comes to a verdict on any file, in a child that can harm nobody, dies without harm, and is never left behind."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import onnx_scan
from registry.errors import ModelRefusedError
from registry.onnx_guard import Guard, Limits
from tests.registry.onnx_files import HEAD, cut, forest, rich, sized, small

GOOD = small().SerializeToString()
SLOW = HEAD + sized(7, b"") + b"\xf8\x07\x00" * 1_000_000  # a million unknown fields: a second or more
ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard() as made:
        yield made


def child_of(guard: Guard) -> int:
    """The process id of the one idle child."""
    (child,) = guard._idle
    return child._process.pid


def refused(guard: Guard, raw: bytes) -> str:
    with pytest.raises(ModelRefusedError) as caught:
        guard.check(cut(raw))
    return str(caught.value)


def gone(process: int, seconds: float = 10) -> bool:
    """Whether it ends, at the latest after that time; one that ended and that nobody asked for counts as gone."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def program(text: str, *arguments: object) -> list[str]:
    """The command of a program of its own that uses a guard; any warning ends it."""
    head = "import os, sys, time, signal\nfrom registry.onnx_guard import Guard\nfrom tests.registry.onnx_files import huge, small\n"
    # A shell's background jobs, and all they start, have Ctrl-C ignored.
    head += "signal.signal(signal.SIGINT, signal.default_int_handler)\ngood = small().SerializeToString()\n"
    return [sys.executable, "-W", "error", "-X", "dev", "-c", head + textwrap.dedent(text), *map(str, arguments)]


def run(text: str, *arguments: object) -> str:
    """What such a program prints; it must end well and print nothing else."""
    done = subprocess.run(program(text, *arguments), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def start(text: str, *arguments: object) -> subprocess.Popen[str]:
    """Start such a program in a group of its own, as a shell does."""
    return subprocess.Popen(
        program(text, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def test_a_good_model_is_let_in_and_read_to_its_end_in_whatever_chunks(guard: Guard) -> None:
    raw = rich().SerializeToString()
    for chunks in ([raw], cut(raw, 1), [b"", *cut(raw, 100), b""], [raw[:1], raw[1:]]):
        source = iter(chunks)
        guard.check(source)
        assert next(source, None) is None
    guard.check([forest(20_000)])  # one chunk of many times what a pipe holds


EXTERNAL = HEAD + sized(7, sized(5, sized(13, sized(1, b"location") + sized(2, "poids\n\N{SNOWMAN}.bin".encode()))))
FANCY = HEAD + sized(7, sized(1, sized(4, b"Fancy") + sized(7, b"my.ops")))


@pytest.mark.parametrize("raw", [b"", b"a model", GOOD[:-1], EXTERNAL, FANCY, bytes(300_000)], ids=lambda raw: raw[:20].hex() or "empty")
def test_a_refused_file_is_refused_in_one_line_with_the_reason_of_the_scan(guard: Guard, raw: bytes) -> None:
    found = refused(guard, raw)
    assert found == f"model.onnx {onnx_scan.refusal([raw])}"
    assert found.isprintable()


def test_one_child_serves_one_check_after_the_other_refused_or_not(guard: Guard) -> None:
    guard.check([GOOD])
    first = child_of(guard)
    refused(guard, GOOD[:-1])
    refused(guard, b"\x00" * 300_000)  # refused at its first byte
    guard.check([GOOD])
    assert child_of(guard) == first


def test_a_check_of_a_small_model_costs_no_start_of_a_process(guard: Guard) -> None:
    guard.check([GOOD])
    assert min(timeit.repeat(lambda: guard.check([GOOD]), number=1, repeat=100)) < 0.001


def test_a_file_refused_early_is_not_read_to_its_end(guard: Guard) -> None:
    left = iter([b"\x00\x00", *[bytes(1 << 16)] * 1000])
    with pytest.raises(ModelRefusedError, match="no field number 0"):
        guard.check(left)
    assert len(list(left)) > 900


def test_the_size_limit_holds_to_the_byte_and_ends_the_reading() -> None:
    with Guard(Limits(model_bytes=len(GOOD))) as guard:
        guard.check(cut(GOOD, 10))
        left = iter([GOOD, b"\x12", b"\x00", b"never read"])
        with pytest.raises(ModelRefusedError) as caught:
            guard.check(left)
        assert str(caught.value) == f"model.onnx has more than {len(GOOD)} bytes, the most that is let in"
        assert next(left) == b"\x00"
        guard.check([GOOD])


def test_the_nesting_limit_reaches_the_child() -> None:
    model = HEAD + sized(7, sized(1, sized(5, sized(6, b""))))
    with Guard(Limits(nesting=1)) as guard:
        guard.check([model])
    with Guard(Limits(nesting=0)) as guard:
        assert "nested more than 0 deep" in refused(guard, model)


def test_what_the_source_raises_is_raised_unchanged_and_the_next_check_works(guard: Guard) -> None:
    errors = [ConnectionResetError("gone"), KeyboardInterrupt(), ModelRefusedError("by the source")]
    for error in errors:

        def source(error: BaseException = error) -> Iterator[bytes]:
            yield GOOD[:5]
            raise error

        with pytest.raises(type(error)) as caught:
            guard.check(source())
        assert caught.value is error
        guard.check([GOOD])


def test_a_child_killed_in_the_middle_refuses_that_file_and_no_other(guard: Guard) -> None:
    guard.check([GOOD])
    first = child_of(guard)

    def source() -> Iterator[bytes]:
        yield GOOD[:5]
        os.kill(first, signal.SIGKILL)
        yield from cut(GOOD[5:] + bytes(1 << 20))

    with pytest.raises(ModelRefusedError, match=r"could not be checked: the process that did it ended with signal 9; try again$"):
        guard.check(source())
    guard.check([GOOD])
    assert child_of(guard) != first


def test_a_child_that_died_between_two_checks_is_not_noticed(guard: Guard) -> None:
    guard.check([GOOD])
    first = child_of(guard)
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    guard.check([GOOD])
    assert child_of(guard) != first


@linux
def test_a_check_that_needs_more_memory_than_allowed_refuses_the_file() -> None:
    # Twenty thousand names of a kilobyte each, which have to be kept until the functions are known.
    names = (b"%01000d" % number for number in range(10_000))
    greedy = HEAD + sized(7, b"".join(sized(1, sized(4, name) + sized(7, name)) for name in names))
    with Guard(Limits(memory_bytes=30 << 20)) as guard:
        guard.check([GOOD])
        assert refused(guard, greedy) == "model.onnx takes more than 30 MiB of memory to check"
        guard.check([GOOD])
    with Guard() as guard:
        assert "which ONNX Runtime does not have built in" in refused(guard, greedy)


def test_a_check_that_takes_longer_than_allowed_refuses_the_file() -> None:
    with Guard(Limits(seconds=0.2)) as guard:
        guard.check([GOOD])
        started = time.monotonic()
        assert refused(guard, SLOW) == "model.onnx takes more than 0.2 s to check"
        assert time.monotonic() - started < 5
        guard.check([GOOD])
        for _ in range(3000):  # each has the whole time
            guard.check([GOOD])
        os.kill(child_of(guard), signal.SIGSTOP)
        assert refused(guard, GOOD) == "model.onnx takes more than 0.2 s to check"
        guard.check([GOOD])


def test_the_time_the_chunks_take_to_come_is_not_counted() -> None:
    def slow() -> Iterator[bytes]:
        for chunk in cut(GOOD, 50):
            time.sleep(0.2)
            yield chunk

    with Guard(Limits(seconds=0.2)) as guard:
        guard.check(slow())


def test_checks_in_several_threads_go_on_at_once_and_do_not_mix(guard: Guard) -> None:
    both = threading.Barrier(2, timeout=10)
    found: dict[str, str | None] = {}

    def check(name: str, raw: bytes) -> None:
        def source() -> Iterator[bytes]:
            for chunk in cut(raw, 1 + len(raw) // 5):
                both.wait()  # neither gets on without the other
                yield chunk

        try:
            guard.check(source())
            found[name] = None
        except ModelRefusedError as error:
            found[name] = str(error)

    threads = [threading.Thread(target=check, args=item) for item in (("good", GOOD), ("cut", GOOD[:-1]))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found["good"] is None
    assert "ends in the middle" in (found["cut"] or "")


def test_a_source_may_check_other_models_and_few_children_are_kept(guard: Guard) -> None:
    def source(depth: int) -> Iterator[bytes]:
        yield GOOD[:5]
        if depth:
            guard.check(source(depth - 1))
        yield GOOD[5:]

    guard.check(source(6))
    assert len(guard._idle) == 4


def test_a_child_that_cannot_limit_itself_checks_nothing_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Guard(Limits(memory_bytes=1 << 70)) as guard:
        assert refused(guard, GOOD) == "model.onnx could not be checked: the process that did it ended with code 1; try again"
    assert capfd.readouterr() == ("", "")


@linux
def test_the_child_limits_itself_and_has_nothing_of_ours(guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SECRET", "for the registry only")
    with (tmp_path / "open").open("w"):
        guard.check([GOOD])
        child = Path(f"/proc/{child_of(guard)}")
        assert sorted(path.name for path in (child / "fd").iterdir()) == ["0", "1", "2"]
    assert b"SECRET" not in (child / "environ").read_bytes()
    assert (child / "cwd").readlink() == Path("/")
    assert os.getpgid(child_of(guard)) == child_of(guard)
    limits = {line[:25].strip(): line[25:].split()[:2] for line in (child / "limits").read_text().splitlines()}
    assert limits["Max address space"] == [str(512 << 20)] * 2
    assert limits["Max core file size"] == limits["Max file size"] == ["0", "0"]
    assert limits["Max open files"] == ["3", "3"]


def test_closing_or_forgetting_a_guard_ends_its_child_and_leaves_no_zombie() -> None:
    guard = Guard()
    guard.check([GOOD])
    closed = child_of(guard)
    guard.close()
    forgotten = Guard()
    forgotten.check([GOOD])
    collected = child_of(forgotten)
    del forgotten
    gc.collect()
    for child in (closed, collected):
        with pytest.raises(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
    guard.check([GOOD])  # with a child for this once
    assert guard._idle == []


@linux
def test_a_program_that_ends_without_closing_its_guard_leaves_no_child_and_no_warning() -> None:
    printed = run("guard = Guard(); guard.check([good]); print(guard._idle[0]._process.pid)")
    assert gone(int(printed))


@linux
@pytest.mark.parametrize("moment", ["between checks", "in a check"])
def test_the_child_ends_when_its_parent_is_killed(moment: str) -> None:
    parent = start(
        """
        guard = Guard(); guard.check([good])
        print(guard._idle[0]._process.pid, flush=True)
        def forever():
            yield good[:5]
            time.sleep(60)
        guard.check(forever()) if sys.argv[1] == "in a check" else time.sleep(60)
        """,
        moment,
    )
    with parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        time.sleep(0.1)
        assert not gone(child, 0.1)
        parent.kill()
        assert gone(child)


@linux
def test_ctrl_c_ends_parent_and_child_and_prints_nothing_of_the_child() -> None:
    parent = start(
        """
        guard = Guard(); guard.check([good])
        child = guard._idle[0]._process.pid
        os.kill(child, signal.SIGINT)
        guard.check([good])
        assert guard._idle[0]._process.pid == child  # it goes on
        def forever():
            print(child, flush=True)
            yield good[:5]
            time.sleep(60)
        guard.check(forever())
        """
    )
    with parent:
        assert parent.stdout
        assert parent.stderr
        child = int(parent.stdout.readline())
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stderr.read().count("Traceback") == 1
        assert parent.wait(10) == -signal.SIGINT
        assert gone(child)


def test_it_works_with_the_standard_streams_closed(tmp_path: Path) -> None:
    run(
        """
        for stream in (0, 1, 2):
            os.close(stream)
        Guard().check([good])
        open(sys.argv[1], "w").write("checked")
        os._exit(0)
        """,
        tmp_path / "result",
    )
    assert (tmp_path / "result").read_text() == "checked"


@linux
def test_after_a_fork_each_process_has_a_child_of_its_own() -> None:
    run(
        """
        guard = Guard(); guard.check([good])
        child = guard._idle[0]._process.pid
        forked = os.fork()
        guard.check([good])
        if not forked:
            assert guard._idle[0]._process.pid != child
            guard.close()
            sys.exit(0)
        assert os.waitpid(forked, 0)[1] == 0
        guard.check([good])
        assert guard._idle[0]._process.pid == child
        guard.close()
        """
    )


@linux
def test_a_huge_model_needs_no_more_memory_than_a_small_one() -> None:
    printed = run(
        """
        def peak(process):
            with open(f"/proc/{process}/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        guard = Guard(); guard.check([good])
        both = (os.getpid(), guard._idle[0]._process.pid)
        for process in both:
            with open(f"/proc/{process}/clear_refs", "w") as file:
                file.write("5")  # the peak is what is used now
        before = [peak(process) for process in both]
        guard.check(huge(256 << 20))
        print(*(peak(process) - old for process, old in zip(both, before, strict=True)))
        """
    )
    assert all(int(kib) < 16 << 10 for kib in printed.split())
