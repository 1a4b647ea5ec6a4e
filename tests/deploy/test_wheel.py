"""The wheel that images install holds what it promises: every module under its own name, templates, and the command."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.deploy.dockerfiles import ROOT

FOLDERS = ("registry", "server", "control_plane", "training", "clients/cli", "clients/demo")
CRATE = Path("server/native")
"""Only its Python side: the rest makes another wheel."""
KINDS = ("*.py", "*.j2", "*.toml", "*.csv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the programs, built as the images build it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True, capture_output=True, timeout=120
    )
    (found,) = folder.glob("*.whl")
    return found


def test_every_file_of_the_programs_is_in_it_under_its_own_name(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    files = {path.relative_to(ROOT) for folder in FOLDERS for kind in KINDS for path in (ROOT / folder).rglob(kind)}
    assert {path.as_posix() for path in files if CRATE not in path.parents or path.suffix == ".py"} <= held
    assert {Path(name).suffix for name in held if name.startswith(CRATE.as_posix())} == {".py"}
    assert {name.split("/")[0] for name in held} == {folder.split("/")[0] for folder in FOLDERS}


def test_the_command_starts_from_the_wheel_alone(wheel: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(wheel)!r}); from clients.cli import main; print(main.__file__); main.run(['--help'])"
    done = subprocess.run([sys.executable, "-c", program], cwd=wheel.parent, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(wheel))
