"""`python -m registry` answers for people and for machines, and says what is wrong in one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from registry.__main__ import main
from registry.names import commit_key
from registry.registry import Registry
from tests.registry.helpers import ACTOR, MODEL, register


@pytest.fixture
def url(registry: Registry, root: Path) -> str:
    register(registry, 2)
    registry.promote(MODEL, 1, to="production", actor=ACTOR, reason="first\x1b[2J\nroute")
    return root.as_uri()


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_it_lists_shows_and_looks_back(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert run(capsys, "list", "--registry", url)[1].startswith(f"model={MODEL}  versions=2  production=1")
    assert "production: 1\nstaging: -\n" in run(capsys, "show", MODEL, "--registry", url)[1]
    assert "  auc: 0.6\n" in run(capsys, "show", MODEL, "2", "--registry", url)[1]
    assert "production: -\n" in run(capsys, "at", MODEL, "2026-01-01T00:00:03Z", "--registry", url)[1]
    assert run(capsys, "verify", "--registry", url) == (0, "all as written: 1 models, 2 versions, 3 commits, 3 blobs\n", "")


def test_a_reason_can_neither_command_the_terminal_nor_forge_a_line_of_the_log(capsys: pytest.CaptureFixture[str], url: str) -> None:
    _, out, _ = run(capsys, "log", MODEL, "--registry", url)
    assert len(out.splitlines()) == 3
    assert out.endswith("ana: first\\u001b[2J\\u000aroute\n")


@pytest.mark.parametrize(
    "command", [["list"], ["show", MODEL], ["show", MODEL, "1"], ["log", MODEL], ["at", MODEL, "2026-01-01"], ["verify"]]
)
def test_json_is_for_machines(capsys: pytest.CaptureFixture[str], url: str, command: list[str]) -> None:
    code, out, err = run(capsys, *command, "--json", "--registry", url)
    assert (code, err) == (0, "")
    assert json.loads(out) is not None


def test_a_broken_registry_exits_with_1_and_names_the_object(capsys: pytest.CaptureFixture[str], url: str, root: Path) -> None:
    (root / commit_key(MODEL, 2)).unlink()
    code, out, _ = run(capsys, "verify", "--registry", url)
    assert code == 1
    assert out.splitlines()[0] == f"{commit_key(MODEL, 2)}: is missing, while the log goes on with commit 3"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "nope"], f"no model 'nope' in the registry; known: {MODEL}"),
        (["log", "../x"], "model name '../x' is not allowed"),
        (["show", MODEL, "9"], "has no version 9; registered: 1, 2"),
        (["show", MODEL, "0"], "has no version 0"),
    ],
)
def test_bad_input_exits_with_2_and_one_line(capsys: pytest.CaptureFixture[str], url: str, arguments: list[str], says: str) -> None:
    code, out, err = run(capsys, *arguments, "--registry", url)
    assert (code, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_place_that_is_no_registry_exits_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for place in (str(tmp_path), str(tmp_path / "absent"), "http://bucket/x", ""):
        code, _, err = run(capsys, "list", "--registry", place)
        assert code == 2
        assert len(err.splitlines()) == 1


def test_a_reader_that_has_seen_enough_is_no_error(url: str) -> None:
    code = f"{sys.executable} -m registry log {MODEL} --json --registry {url}"
    program = subprocess.Popen(code.split(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    program.stdout.close()
    assert program.stderr is not None
    assert program.stderr.read() == b""
    program.stderr.close()
    assert program.wait(30) == 0
