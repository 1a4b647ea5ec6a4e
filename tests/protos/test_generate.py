"""The checked-in modules are what the .proto files say, and `--check` notices when they are not."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROTOS = Path(__file__).resolve().parents[2] / "protos"


def _check(protos: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(protos / "generate.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROTOS, tmp_path / "protos", ignore=shutil.ignore_patterns("__pycache__")))


def test_checked_in_modules_are_up_to_date() -> None:
    done = _check(PROTOS)
    assert (done.returncode, done.stderr) == (0, "")


def _edit_proto(protos: Path) -> None:
    file = protos / "inference.proto"
    file.write_text(file.read_text().replace("bool live = 1;", "bool live = 2;"))


def _edit_generated(protos: Path) -> None:
    with (protos / "src/tidegate_protos/monitoring_pb2.pyi").open("a") as file:
        file.write("# edited by hand\n")


def _remove(protos: Path) -> None:
    (protos / "src/tidegate_protos/inference_pb2_grpc.py").unlink()


def _leave_an_orphan(protos: Path) -> None:
    (protos / "src/tidegate_protos/gone_pb2.py").write_text("")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_edit_proto, "inference_pb2.py"),
        (_edit_generated, "monitoring_pb2.pyi"),
        (_remove, "inference_pb2_grpc.py"),
        (_leave_an_orphan, "gone_pb2.py"),
    ],
)
def test_check_names_what_differs_and_changes_nothing(copy: Path, change: Callable[[Path], None], named: str) -> None:
    change(copy)
    before = _snapshot(copy)
    done = _check(copy)
    assert done.returncode == 1
    assert done.stderr == f"not what the .proto files say: {named}; run `make generate`\n"
    assert _snapshot(copy) == before


def test_generating_mends_what_check_found(copy: Path) -> None:
    _edit_generated(copy)
    _remove(copy)
    _leave_an_orphan(copy)
    subprocess.run([sys.executable, str(copy / "generate.py")], check=True, timeout=60)
    assert _check(copy).returncode == 0
