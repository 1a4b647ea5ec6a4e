"""`promote` and `rollback` through a running control plane: the same words, the same refusals, the same log as at a folder."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients.demo.programs import running
from registry.registry import Registry
from tests.clients.cli.conftest import MODEL, Command


@pytest.fixture
def control(registry: Registry, root: Path, tmp_path: Path) -> Iterator[str]:
    """The URL of a control plane over the test's registry."""
    assert registry.models() == [MODEL]
    flags = {"registry": str(root), "http-address": "127.0.0.1:0"}
    with running("control_plane", flags, tmp_path / "control.log") as program:
        yield program.announcement.rpartition(" ")[2]


def test_changes_go_through_the_control_plane_with_the_user_as_actor(
    tidegate: Command, registry: Registry, control: str, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "no-registry-here"  # so that only the control plane can have done it
    for version in (1, 2):
        done = tidegate("promote", MODEL, version, "--to", "production", "--reason", "été", "--control", control, "--registry", elsewhere)
        assert (done.returncode, done.stdout) == (0, f"{MODEL}: version {version} is in production\n")
    done = tidegate("rollback", MODEL, "--reason", "complaints", "--control", f"{control}/", "--registry", elsewhere, "--json")
    assert json.loads(done.stdout)["payload"] == {"stable": 1}
    *_, before, last = registry.log(MODEL)
    assert (before.change.actor, before.change.reason) == ("ana", "été")
    assert (last.change.actor, last.change.reason) == ("ana", "complaints")
    assert registry.state(MODEL).production == 1


def test_refusals_have_the_same_exit_code_and_words_both_ways(tidegate: Command, registry: Registry, control: str) -> None:
    registry.promote(MODEL, 1, to="production", actor="ana", reason="first")
    asked: list[tuple[str, ...]] = [
        ("promote", MODEL, "1", "--to", "production", "--reason", "again"),
        ("promote", MODEL, "9", "--to", "production", "--reason", "no such version"),
        ("promote", "../tides", "1", "--to", "staging", "--reason", "no such name"),
        ("rollback", MODEL, "--reason", "nothing before"),
    ]
    for arguments in asked:
        here, there = tidegate(*arguments), tidegate(*arguments, "--control", control)
        assert (there.returncode, there.stdout) == (here.returncode, "")
        if arguments[1] != "../tides":  # in a URL it is not even a name
            assert there.stderr == here.stderr


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "file:///etc/passwd", "http://"])
def test_what_is_no_address_is_exit_2(tidegate: Command, url: str) -> None:
    done = tidegate("rollback", MODEL, "--reason", "r", "--control", url)
    assert done.returncode == 2
    assert "control" in done.stderr


def test_nobody_there_is_exit_2(tidegate: Command, unused_address: str) -> None:
    done = tidegate("rollback", MODEL, "--reason", "r", "--control", f"http://{unused_address}")
    assert done.returncode == 2
    assert "tidegate control" in done.stderr
