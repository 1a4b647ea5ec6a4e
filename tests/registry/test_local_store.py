"""A folder as a store: put-if-absent is durable, and what the disk refuses is one line of the right kind that says what to do.

What every store promises is in `test_store_contract`, every crash in `test_power_loss`.
"""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.errors import AccessDeniedError, FormatError, NotARegistryError, StorageFullError, StoreError
from registry.location import create_folder, open_folder, open_registry
from registry.names import MARKER
from registry.verify import examine
from tests.registry.helpers import ACTOR, MODEL, bundle, files, new_registry, register

MOUNT, UMOUNT = shutil.which("mount"), shutil.which("umount")
TINY = ("-t", "tmpfs", "-o", "size=256k", "tmpfs")
needs_other_user = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def trace(root: Path, *, before: Path | None = None) -> list[str]:
    """Every folder synced, and `link`, in the order another process does it when it puts `models/m/log/x`."""
    code = """
import os, sys
from pathlib import Path
from registry.local_store import LocalStore
root, done = Path(sys.argv[1]), []
fsync, link = os.fsync, os.link
os.fsync = lambda fd: (fsync(fd), done.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), root)))
os.link = lambda a, b: (link(a, b), done.append("link"))
assert LocalStore(root).put_if_absent("models/m/log/x", [b"x"])
print("\\n".join(done))
"""
    assert before is None or before.is_dir()
    out = subprocess.run([sys.executable, "-c", code, str(root)], check=True, capture_output=True, text=True)
    return out.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("made_by_another", [False, True])
def test_every_folder_up_to_the_root_is_durable_before_true_is_returned_even_if_another_process_made_it(
    root: Path, *, made_by_another: bool
) -> None:
    create_folder(root)
    if made_by_another:  # and killed before it could sync them
        (root / "models/m/log").mkdir(parents=True)
    done = trace(root)
    assert done[:3] == [".", "models", "models/m"]
    assert done[3].startswith("models/m/log/.tmp-")
    assert done[4:] == ["link", "models/m/log"]


def test_an_absent_or_empty_folder_or_fresh_volume_becomes_a_registry(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "volume" / "lost+found").mkdir(parents=True)
    for name in ("empty", "volume", "absent", "a/b/c"):
        create_folder(tmp_path / name)
        create_folder(tmp_path / name)
        assert (tmp_path / name / MARKER).is_file()


def test_a_folder_with_something_else_is_not_made_a_registry(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(NotARegistryError, match=r"not empty \(it has photo\.jpg\)"):
        create_folder(tmp_path)
    assert list(files(tmp_path)) == ["photo.jpg"]


def test_a_file_is_not_a_registry(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    for path in (file, file / "below"):
        with pytest.raises(NotARegistryError, match="is a file, not a registry folder"):
            create_folder(path)
    with pytest.raises(NotARegistryError, match=r"it has no registry\.json"):
        open_folder(file)


def test_what_is_no_registry_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(NotARegistryError, match="no registry at"):
        open_folder(tmp_path / "absent")
    with pytest.raises(NotARegistryError, match=r"it has no registry\.json"):
        open_folder(tmp_path)


@pytest.mark.parametrize("marker", [b'{"format":"tidegate.registry/2"}\n', b"", b"not json", b"[]"])
def test_a_registry_of_another_format_is_neither_opened_nor_written(root: Path, marker: bytes) -> None:
    root.mkdir()
    (root / MARKER).write_bytes(marker)
    for opened in (open_folder, create_folder):
        with pytest.raises(FormatError, match=r"registry\.json"):
            opened(root)
    assert files(root) == {MARKER: marker}


def test_a_name_too_long_for_the_disk_is_one_line(tmp_path: Path) -> None:
    for opened in (open_folder, create_folder):
        with pytest.raises(StoreError, match="File name too long"):
            opened(tmp_path / ("x" * 300))


def as_user(root: Path, action: str) -> str:
    """What a process without root's rights prints: nothing, or the error."""
    code = f"""
import os, sys
from pathlib import Path
from registry.errors import RegistryError
from registry.location import open_registry, create_registry
from registry.watch import PollingWatcher, watch
from tests.registry.helpers import bundle
import inotify_simple  # while the interpreter's own folder may be read
os.setgid(65534); os.setuid(65534)
try:
    registry = open_registry(sys.argv[1])
    {action}
except RegistryError as error:
    print(type(error).__name__, error)
"""
    return subprocess.run([sys.executable, "-c", code, str(root)], check=True, capture_output=True, text=True, cwd=Path.cwd()).stdout


PROMOTE = f"registry.promote({MODEL!r}, 1, to='staging', actor='x', reason='x')"


@needs_other_user
def test_who_may_only_read_reads_and_is_told_who_must_be_allowed_to_write(tmp_path: Path) -> None:
    # pytest's own folder is closed to others
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    root = tmp_path / "registry"
    register(new_registry(root))
    before = files(root)
    assert as_user(root, f"print(registry.state({MODEL!r}).seq)") == "1\n"
    refused = as_user(root, PROMOTE)
    assert refused.startswith("AccessDeniedError cannot write models/")
    assert refused.endswith("permission denied: who runs this needs to read and write the registry folder\n")
    (root / "models").chmod(0)
    assert "permission denied" in as_user(root, "registry.models()")
    (root / "models").chmod(0o755)
    assert files(root) == before


@needs_other_user
def test_a_model_that_may_not_be_read_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    root = tmp_path / "registry"
    registry = new_registry(root)
    for model in ("closed", "open"):
        registry.register(model, bundle(), {}, actor=ACTOR, reason="new")
    (root / "models" / "closed").chmod(0o700)
    assert as_user(root, "print(registry.models(), registry.state('open').seq)") == "['closed', 'open'] 1\n"
    assert "permission denied" in as_user(root, "registry.state('closed')")
    watchers = (
        "from registry.watch import PollingWatcher, watch; print(type(watch(sys.argv[1])).__name__, PollingWatcher(registry.store).wait(0))"
    )
    assert as_user(root, watchers) == "InotifyWatcher False\n"


def test_a_full_disk_is_said_in_one_line_and_leaves_the_registry_as_it_was(root: Path) -> None:
    register(new_registry(root))
    before = files(root)
    code = f"""
import resource, sys
from registry.errors import RegistryError
from registry.location import open_registry
from tests.registry.helpers import bundle, model
registry = open_registry(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    registry.register({MODEL!r}, {{**bundle(), "model.onnx": model("x" * 100_000)}}, {{}}, actor="x", reason="x")
except RegistryError as error:
    print(error)
"""
    for limit in (0, 10, 60_000):
        out = subprocess.run([sys.executable, "-c", code, str(root), str(limit)], check=True, capture_output=True, text=True)
        assert out.stdout.startswith("cannot write blobs/sha256/"), out
        assert len(out.stdout.splitlines()) == 1
        assert files(root) == before


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not MOUNT or not UMOUNT or subprocess.run([MOUNT, *TINY, str(disk)], check=False, capture_output=True).returncode:
        pytest.skip("may not mount a file system here; the file size limit above tests the same path")
    yield disk
    subprocess.run([UMOUNT, str(disk)], check=True)


def test_a_disk_that_fills_up_refuses_what_does_not_fit_and_keeps_all_that_was_acknowledged(tiny_disk: Path) -> None:
    registry = new_registry(tiny_disk / "registry")
    done: list[int] = []

    def fill() -> None:
        done.extend(registry.register(MODEL, bundle(f"{number}" * 10_000), {}, actor=ACTOR, reason="more") for number in range(100))

    with pytest.raises(StorageFullError, match="the disk is full: free some space"):
        fill()
    reader = open_registry(str(tiny_disk / "registry"))
    assert done
    assert sorted(reader.state(MODEL).versions) == done
    report = examine(reader.store)
    assert report.problems == ()
    assert not any(entry.unfinished for entry in reader.store.entries())


def test_a_read_only_disk_can_be_read(tiny_disk: Path) -> None:
    register(new_registry(tiny_disk))
    subprocess.run([MOUNT or "", "-o", "remount,ro", str(tiny_disk)], check=True)
    registry = open_registry(str(tiny_disk))
    assert registry.state(MODEL).seq == 1
    with pytest.raises(AccessDeniedError, match="the file system is read-only"):
        register(registry)
    create_folder(tiny_disk)
