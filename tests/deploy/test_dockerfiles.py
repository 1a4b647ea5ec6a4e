"""The Dockerfiles agree with the repository and with the programs they start."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from control_plane.settings import Settings as ControlSettings
from registry.location import create_registry
from server.settings import Settings as ServerSettings
from tests.daemons import daemon
from tests.deploy.dockerfiles import NAMES, ROOT, instructions, rest_of


@pytest.mark.parametrize("name", NAMES)
def test_all_that_is_copied_exists_and_reaches_the_builder(name: str) -> None:
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for rest in rest_of(name, "COPY") if "--from" not in rest for source in rest.split()[:-1]]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert source.split("/")[0] in sent, source


@pytest.mark.parametrize("name", NAMES)
def test_all_that_is_installed_is_hashed_and_copied_before(name: str) -> None:
    seen: set[str] = set()
    for instruction in instructions(name):
        if instruction.word == "COPY":
            seen.update(instruction.rest.split())
        for step in instruction.rest.split("&&") if instruction.word == "RUN" else ():
            used = re.findall(r"-[rc] (\S+)", step)
            assert seen.issuperset(used)
            assert "install" not in step or "--require-hashes" in step or "--no-index" in step, step
            for lock in used:
                assert "--hash=sha256:" in (ROOT / lock).read_text()


def test_the_build_backend_is_the_one_the_distributions_ask_for() -> None:
    wanted = re.findall(r'requires = \["(hatchling==[^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert all(f" {wanted[0]}" in rest for name in NAMES for rest in rest_of(name, "RUN") if "hatchling" in rest)
    assert f"\n{wanted[0]} " in (ROOT / "requirements" / "demo.txt").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_runs_as_root_and_no_host_is_named(name: str) -> None:
    assert rest_of(name, "USER") == ["10001:10001"]
    hosts = {host for instruction in instructions(name) for host in re.findall(r"\w+://([^/:'\"\s]+)", instruction.rest)}
    assert hosts <= {"127.0.0.1"}
    assert rest_of(name, "HEALTHCHECK")


def test_the_ports_are_the_defaults_of_the_programs() -> None:
    def port(address: str) -> str:
        return address.rpartition(":")[2]

    server, control = ServerSettings.model_fields, ControlSettings.model_fields
    assert rest_of("daemon", "EXPOSE") == [f"{port(server['grpc_address'].default)} {port(server['metrics_address'].default)}"]
    assert rest_of("control-plane", "EXPOSE") == [port(control["http_address"].default)]
    assert rest_of("training", "EXPOSE") == []


@pytest.mark.parametrize("name", NAMES)
def test_the_entry_point_is_a_command(name: str) -> None:
    program, command = json.loads(rest_of(name, "ENTRYPOINT")[0])
    assert program == "tidegate"
    done = subprocess.run(
        [sys.executable, "-m", "clients.cli.main", command, "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.lower().startswith(f"usage: tidegate {command}")


def test_the_daemon_is_healthy_when_it_serves_and_not_when_it_is_gone(tmp_path: Path) -> None:
    command = json.loads(rest_of("daemon", "HEALTHCHECK")[0].partition("CMD ")[2])
    create_registry(str(tmp_path / "registry"))
    with daemon(tmp_path, {"registry": str(tmp_path / "registry")}) as found:
        assert _exit_code(command, "127.0.0.1:8001", found.address) == 0
    assert _exit_code(command, "127.0.0.1:8001", found.address) != 0


def _exit_code(command: list[str], default: str, address: str) -> int:
    program = command[-1].replace(default, address)
    assert program != command[-1]
    return subprocess.run([sys.executable, *command[1:-1], program], capture_output=True, timeout=60, check=False).returncode
