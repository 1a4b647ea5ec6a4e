"""`tidegate token`: the token once, and an entry that the daemon takes."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.access import Grant, digest_of
from server.tokens import Entry, entry_text, read_tokens
from tests.certificates import LOCAL, authority, issued
from tests.clients.cli.conftest import Command
from tests.daemons import daemon
from tests.models import scaled


def test_the_entry_belongs_to_the_token_and_is_taken_by_the_daemon(tidegate: Command, tmp_path: Path) -> None:
    done = tidegate("token", "shop", "--scope", "infer:churn", "--scope", "read", "--rate", "5", "--burst", "9", "--days", "3", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    path = tmp_path / "tokens.toml"
    path.write_text(shown["entry"])
    path.chmod(0o600)
    found = read_tokens(path).tokens[digest_of(shown["token"])]
    assert found.principal.name == "shop"
    assert found.principal.grants == (Grant("infer", "churn"), Grant("read"))
    assert (found.principal.rate, found.principal.burst) == (5.0, 9.0)
    assert abs(found.expires - (datetime.now(UTC) + timedelta(days=3)).timestamp()) < 60
    assert shown["token"] not in shown["entry"]


def test_what_a_person_sees_is_the_same_and_can_be_appended(tidegate: Command, tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.touch(0o600)
    tokens = []
    for name in ("shop", "batch"):
        lines = tidegate("token", name, "--scope", "*").stdout.splitlines()
        tokens.append(lines[0].rpartition(" ")[2])
        with path.open("a") as file:
            file.write("\n".join(lines[2:]) + "\n")
    assert {read_tokens(path).tokens[digest_of(token)].principal.name for token in tokens} == {"shop", "batch"}
    assert tokens[0] != tokens[1]
    assert read_tokens(path).tokens[digest_of(tokens[0])].expires > time.time() + 1e9


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a b", "--scope", "infer"], "name"),
        (["shop", "--scope", "write"], "'write' is no scope"),
        (["shop"], "--scope"),
        (["shop", "--scope", "infer", "--burst", "5"], "burst without a rate"),
        (["shop", "--scope", "infer", "--rate", "-1"], "rate"),
        (["shop", "--scope", "infer", "--days", "0"], "--days"),
    ],
)
def test_what_is_wrong_is_named_and_no_token_is_made(tidegate: Command, arguments: list[str], named: str) -> None:
    done = tidegate("token", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[object]]:
    """The options that lead to a daemon with TLS, whose token file knows the token `anas`."""
    folder = tmp_path_factory.mktemp("daemon")
    ca = authority("authority")
    certificate, key = issued(ca, "daemon", LOCAL).write(folder, "tls")
    (folder / "ca.pem").write_bytes(ca.pem)
    tokens = folder / "tokens.toml"
    tokens.write_text(entry_text(Entry(name="ana", scopes=("infer:tides", "read:tides"), sha256=digest_of("anas"))))
    tokens.chmod(0o600)
    (folder / "tides").mkdir()
    (folder / "tides" / "model.onnx").write_bytes(scaled(2.0))
    flags = {"model-dir": str(folder / "tides"), "tls-cert": str(certificate), "tls-key": str(key), "tokens": str(tokens)}
    with daemon(folder, flags) as running:
        yield ["--address", running.address, "--tls-ca", folder / "ca.pem"]


@pytest.mark.parametrize(
    ("token", "code", "says"),
    [("anas\n", 2, "no profile"), ("other", 1, "unknown token"), ("", 1, "not one that can be sent"), (None, 1, "cannot read the token")],
)
def test_a_token_file_is_shown_over_tls(
    tidegate: Command, way: list[object], token: str | None, code: int, says: str, tmp_path: Path
) -> None:
    if token is not None:
        (tmp_path / "token").write_text(token)
    done = tidegate("drift", "tides", *way, "--token-file", tmp_path / "token")
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr


def test_without_a_token_the_daemon_says_what_it_wants(tidegate: Command, way: list[object]) -> None:
    done = tidegate("predict", "tides", "--rows", "rows.csv", *way)
    assert (done.returncode, done.stdout) == (1, "")
    assert "authorization: Bearer" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--address", "models.example.org:1", "--token-file", "token"], "in the clear"),
        (["--client-cert", "c.pem", "--client-key", "k.pem"], "--tls-ca"),
        (["--tls-ca", "absent.pem"], "cannot read absent.pem"),
    ],
)
def test_credentials_that_cannot_be_used_are_named(tidegate: Command, arguments: list[str], says: str) -> None:
    done = tidegate("drift", "tides", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
