"""The command itself: help at once, one line for every error, the right exit code, and quiet when its reader leaves."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clients.cli import errors
from clients.cli.errors import CliError, InputError, RefusedError
from registry import errors as registry_errors
from registry.registry import Registry
from tests.clients.cli.conftest import MODEL, Command

HELP_SECONDS = 0.3
HEAVY = ("numpy", "grpc", "onnxruntime", "sklearn", "pandas", "fastapi", "pydantic", "rich", "scipy")
COMMANDS = ("train", "registry", "promote", "rollback", "serve", "control", "token", "predict", "drift", "card")


def test_help_comes_within_the_time_a_person_does_not_notice(tidegate: Command) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        assert tidegate("--help").returncode == 0
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < HELP_SECONDS


def test_help_loads_nothing_heavy() -> None:
    program = f"import sys; from clients.cli.main import main; main(['--help']); print(sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_every_command_and_gives_examples(tidegate: Command) -> None:
    shown = tidegate("--help").stdout
    assert tidegate().stdout == shown
    for name in COMMANDS:
        assert f"\n  {name} " in shown
    assert "tidegate promote churn 2 --to production" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(tidegate: Command, command: str) -> None:
    done = tidegate(command, "--help")
    assert done.returncode == 0
    assert done.stdout.lower().startswith(f"usage: tidegate {command}")
    assert "\\b" not in done.stdout


@pytest.mark.parametrize("buffering", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(("redirection", "code"), [(">/dev/full", 1), (">&-", 0), (">&- 2>&-", 0)])
def test_an_output_that_takes_nothing_ends_in_at_most_one_line(
    registry: Registry, root: Path, redirection: str, code: int, buffering: str
) -> None:
    assert registry.models() == [MODEL]
    command = f"{sys.executable} -m clients.cli.main registry list --registry {root} {redirection}"
    environment = {**os.environ, "PYTHONUNBUFFERED": buffering}
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") <= 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["promot"], "use train, registry, promote"),
        (["--verbose"], "--verbose"),
        (["promote"], "MODEL"),
        (["promote", "m", "two", "--to", "staging", "--reason", "r"], "VERSION"),
        (["promote", "m", "1", "--to", "prod", "--reason", "r"], "prod"),
        (["promote", "m", "1", "--to", "staging"], "--reason"),
        (["registry", "show"], "MODEL"),
        (["registry", "nothing"], "nothing"),
        (["registry"], "command"),
        (["registry", "at", "m", "yesterday"], "ISO 8601"),
        (["registry", "list", "--registry", "ftp://bucket/registry"], "file:///"),
        (["registry", "show", "../m"], "not allowed"),
        (["serve", "--grpc-address", "0.0.0.0:0"], "--insecure"),
    ],
)
def test_bad_usage_is_exit_2_and_says_what_to_do(tidegate: Command, registry: Registry, arguments: list[str], words: str) -> None:
    del registry
    done = tidegate(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


def test_a_folder_that_is_no_registry_is_exit_2(tidegate: Command, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "notes.txt").write_text("mine")
    done = tidegate("registry", "list")
    assert done.returncode == 2
    assert "is not a registry" in done.stderr


def test_a_reader_that_leaves_early_meets_silence(root: Path, registry: Registry) -> None:
    for number in range(300):
        registry.promote(MODEL, 1 + number % 2, to="production", actor="ana", reason="r" * 500)
    with subprocess.Popen(
        [sys.executable, "-m", "clients.cli.main", "registry", "log", MODEL, "--registry", str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == errors.BROKEN_PIPE


def test_an_interrupt_is_exit_130_and_one_line() -> None:
    # Tests that run in the background inherit an ignored SIGINT, which a person's terminal does not.
    interruptible = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{interruptible}; from clients.cli.main import run; run(sys.argv[1:])"
    arguments = ["drift", MODEL, "--address"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with subprocess.Popen(
            [sys.executable, "-c", program, *arguments, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            silent.settimeout(30)
            connection, _ = silent.accept()
            with connection:  # the command asks, and nobody answers
                process.send_signal(signal.SIGINT)
                _, said = process.communicate(timeout=30)
    assert process.returncode == errors.INTERRUPTED
    assert said == "tidegate: interrupted\n"


def test_every_error_of_the_registry_has_an_exit_code() -> None:
    bad_input = {"InvalidNameError", "KeyFileError", "NotARegistryError", "NotFoundError", "ModelUnknownError", "VersionUnknownError"}
    kinds = [kind for kind in vars(registry_errors).values() if isinstance(kind, type)]
    assert {kind.__name__ for kind in kinds if errors.exit_code(kind("")) == errors.BAD_INPUT} == bad_input
    assert [errors.exit_code(kind("")) for kind in (CliError, RefusedError, InputError)] == [1, 1, 2]
