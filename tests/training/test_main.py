"""`python -m training`, as a stranger runs it: exit codes, one-line errors, nothing on the network, nothing in the home folder."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.location import open_registry
from training.__main__ import main

ROOT = Path(__file__).parents[2]
# Python's own audit event: whatever a library does with a socket or a name server passes here.
NO_NETWORK = """
import sys
def watch(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        sys.stderr.write(f"NETWORK {event} {arguments}\\n")
sys.addaudithook(watch)
from training.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def _run(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COMET_", "MPL", "XDG_"))}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-c", NO_NETWORK, *arguments], env=environment, cwd=home.parent, capture_output=True, text=True, check=False
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_a_run_registers_calls_nobody_and_leaves_nothing_at_home(spec_file: Callable[..., Path], home: Path) -> None:
    done = _run(str(spec_file()), "--trials", "1", "--seed", "3", "--actor", "ada", home=home)
    assert done.returncode == 0, done.stderr
    assert [line.split(" auc ")[0] for line in done.stdout.splitlines()] == [
        "mortgage-denial 1 logistic-regression",
        "mortgage-denial 2 gradient-boosting",
    ]
    assert done.stderr.splitlines() == [
        f"{algorithm}: {what}" for algorithm in ("logistic-regression", "gradient-boosting") for what in ("started", "done")
    ]
    assert list(home.iterdir()) == []
    # The default registry is a folder of the place where one stands; experiments lie beside it.
    assert {path.name for path in (home.parent / ".tidegate").iterdir()} == {"registry", "comet"}
    state = open_registry(str(home.parent / ".tidegate" / "registry")).state("mortgage-denial")
    assert [version.actor for version in state.versions.values()] == ["ada", "ada"]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"numeric =": "numric ="}, "did you mean 'numeric'?"), ({'"hmda.csv"': '"none.csv"'}, "no data file at")],
)
def test_bad_input_is_exit_code_2_and_one_line(
    spec_file: Callable[..., Path], capsys: pytest.CaptureFixture[str], change: dict[str, str], message: str
) -> None:
    path = spec_file(change)
    assert main([str(path), "--registry", str(path.parent / "registry")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert message in errors[0]
    assert not (path.parent / "registry").exists()


def test_a_place_that_is_no_registry_is_exit_code_1_and_one_line(
    spec_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = spec_file()
    assert main([str(path), "--registry", str(path.parent)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_importing_the_pipeline_does_not_import_what_only_a_run_needs() -> None:
    code = "import sys, training.pipeline; print([name for name in ('comet_ml', 'aif360', 'matplotlib', 'altair') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
