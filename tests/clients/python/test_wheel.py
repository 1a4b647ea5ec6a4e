"""The published wheels stand alone: built, installed elsewhere, imported without the sources and without pandas."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"pandas", "tritonclient", "registry", "server", "clients"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path = [Blocked(), *(finder for finder in sys.meta_path if not getattr(finder, "__module__", "").startswith("_editable"))]
sys.path[:] = [sys.argv[1], *(entry for entry in sys.path if not entry.startswith(sys.argv[2]) or "site-packages" in entry)]
import tidegate_client, tidegate_protos, numpy as np
for module in (tidegate_client, tidegate_protos):
    assert module.__file__.startswith(sys.argv[1]), module.__file__
with tidegate_client.Client("127.0.0.1:1", max_retries=0) as client:
    assert client.live(timeout=5) is False
prediction = tidegate_client.Prediction("m", "1", "i", {"x": np.zeros(1)})
try:
    prediction.frame()
except tidegate_client.InputError as error:
    print(error)
assert "pandas" not in sys.modules
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    for project in ("protos", "clients/python"):
        command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run(command, cwd=ROOT / project, check=True, capture_output=True, timeout=60)
    wheels = sorted(folder.glob("*.whl"))
    assert [wheel.name.partition("-")[0] for wheel in wheels] == ["tidegate_client", "tidegate_protos"]
    target = folder / "installed"
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *map(str, wheels)], check=True, capture_output=True, timeout=60)
    return target


def test_installed_wheels_work_without_sources_and_without_pandas(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(installed), str(ROOT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "frame() needs pandas: pip install 'tidegate-client[pandas]'\n"


@pytest.mark.parametrize("package", ["tidegate_client", "tidegate_protos"])
def test_wheels_say_that_they_are_typed(installed: Path, package: str) -> None:
    assert (installed / package / "py.typed").exists()


def test_the_client_needs_nothing_heavy(installed: Path) -> None:
    (metadata,) = installed.glob("tidegate_client-*.dist-info/METADATA")
    lines = [line for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    required = {re.match(r"Requires-Dist: ([\w-]+)", line)[1] for line in lines}  # type: ignore[index]
    assert required == {"googleapis-common-protos", "grpcio", "numpy", "protobuf", "tidegate-protos"}
