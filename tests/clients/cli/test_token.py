"""`tidegate token`: the token once, and an entry that the daemon takes."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server.access import Grant, digest_of
from server.tokens import read_tokens
from tests.clients.cli.conftest import Command


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
