"""The parts of `tidegate registry`, and `tidegate route`, that change something or carry it: what is committed, refused and said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry.location import open_registry
from registry.registry import Registry
from tests.clients.cli.conftest import MODEL, Command


def test_a_folder_becomes_a_version_and_the_registry_is_made_if_need_be(tidegate: Command, registry: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    for name in ("model.onnx", "signature.json"):
        (folder / name).write_bytes(registry.read(MODEL, 1, name))
    done = tidegate("registry", "register", "fresh", folder, "--reason", "from the vendor", "--registry", tmp_path / "new")
    assert (done.returncode, done.stdout) == (0, "fresh: registered version 1 with model.onnx, signature.json\n")
    assert open_registry(str(tmp_path / "new")).read("fresh", 1, "model.onnx") == registry.read(MODEL, 1, "model.onnx")
    (folder / "model.onnx").write_bytes(b"no model")
    refused = tidegate("registry", "register", "fresh", folder, "--reason", "again", "--registry", tmp_path / "new")
    assert (refused.returncode, "is not an ONNX model" in refused.stderr) == (1, True)
    assert tidegate("registry", "register", "fresh", tmp_path / "absent", "--reason", "x").returncode == 2


def test_decisions_are_committed_with_who_and_why(tidegate: Command, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"p99_ms": 4}')
    commands = [
        ("attach", MODEL, 2, "load-test.json", "--file", tmp_path / "report.json"),
        ("approve", MODEL, 2),
        ("sign-off", MODEL, 2, "data-privacy"),
        ("override", MODEL, 2, "fairness"),
        ("note", MODEL, "--version", 2),
        ("retire", MODEL, 1),
    ]
    for command in commands:
        done = tidegate("registry", *command, "--reason", f"because of {command[0]}")
        assert (done.returncode, done.stderr) == (0, "")
    *_, evidence, approved, signed_off, overridden, noted, retired = registry.log(MODEL)
    kinds = [entry.kind.value for entry in (evidence, approved, signed_off, overridden, noted, retired)]
    assert kinds == ["evidence", "approved", "signed_off", "overridden", "noted", "retired"]
    assert all(entry.change.actor == "ana" for entry in (evidence, approved, retired))
    assert approved.change.reason == "because of approve"
    assert registry.evidence(MODEL, 2, "load-test.json") == b'{"p99_ms": 4}'
    again = tidegate("registry", "approve", MODEL, 2, "--reason", "again")
    assert (again.returncode, "approved version 2" in again.stderr) == (1, True)
    assert tidegate("registry", "attach", MODEL, 2, "x", "--file", tmp_path / "absent", "--reason", "x").returncode == 2
    history = json.loads(tidegate("registry", "log", MODEL, "--version", 1, "--json").stdout)
    assert [entry["kind"] for entry in history] == ["registered", "retired"]


def test_a_route_says_weights_and_shadows_and_show_tells_each_version_its_part(tidegate: Command, registry: Registry) -> None:
    done = tidegate("route", MODEL, "--split", "1=90", "--split", "2=10", "--reason", "canary")
    assert (done.returncode, done.stdout) == (0, f"{MODEL}: production is 1=90 2=10\n")
    shown = json.loads(tidegate("registry", "show", MODEL, "--json").stdout)
    assert [(row["arm"], row["percent"]) for row in shown["versions"]] == [("stable", 90), ("canary", 10)]
    assert "1=90 2=10" in tidegate("registry", "log", MODEL).stdout
    assert tidegate("route", MODEL, "--split", "1", "--shadow", 2, "--reason", "shadow").returncode == 0
    assert registry.state(MODEL).arm_of(2) == ("shadow", 0)


@pytest.mark.parametrize(
    ("split", "code", "says"),
    [
        (["1=90"], 1, "add up to 90"),
        (["one=100"], 2, "VERSION=PERCENT"),
        (["1=50", "1=50"], 2, "VERSION=PERCENT"),
        (["7"], 2, "no version 7"),
    ],
)
def test_a_route_that_cannot_be_is_refused(tidegate: Command, registry: Registry, split: list[str], code: int, says: str) -> None:
    before = registry.state(MODEL)
    done = tidegate("route", MODEL, *[part for weight in split for part in ("--split", weight)], "--reason", "x")
    assert (done.returncode, says in done.stderr) == (code, True)
    assert registry.state(MODEL) == before


def test_two_versions_are_compared_for_people_and_machines(tidegate: Command, registry: Registry) -> None:
    registry.approve(MODEL, 2, actor="ben", reason="good")
    text = tidegate("registry", "compare", MODEL, 1, 2).stdout
    assert any(line.split()[:4] == ["model.onnx", *line.split()[1:3], "changed"] for line in text.splitlines())
    found = json.loads(tidegate("registry", "compare", MODEL, 1, 2, "--json").stdout)
    assert {item["name"]: item["second"] for item in found["decisions"]}["approved by"] == ["ben"]
    assert tidegate("registry", "compare", MODEL, 1, 9).returncode == 2


def test_keys_sign_what_is_committed_and_only_that_is_read_with_trusted_keys(tidegate: Command, registry: Registry, tmp_path: Path) -> None:
    key, public, kept = tmp_path / "ana.key", tmp_path / "ana.pub", tmp_path / "kept"
    assert tidegate("registry", "keygen", key).returncode == 0
    assert (tidegate("registry", "keygen", key).returncode, public.exists()) == (2, True)
    refused = tidegate("registry", "show", MODEL, "--trusted-keys", public)
    assert (refused.returncode, "not signed" in refused.stderr) == (1, True)
    # A signed checkpoint vouches for what was there before there were keys.
    assert tidegate("registry", "checkpoint", "--signing-key", key, "--out", kept).returncode == 0
    assert [path.name for path in kept.iterdir()] == [f"{MODEL}.{2:020d}.json"]
    signed = ("--reason", "signed", "--signing-key", key, "--trusted-keys", public)
    assert tidegate("promote", MODEL, 1, "--to", "production", *signed).returncode == 0
    assert tidegate("registry", "show", MODEL, "--trusted-keys", public).returncode == 0
    check = ("registry", "verify", "--trusted-keys", public, "--checkpoints", kept)
    assert tidegate(*check).returncode == 0
    registry.note(MODEL, actor="eve", reason="not signed")
    done = tidegate(*check)
    assert (done.returncode, f"log/{4:020d}.json: it is not signed" in done.stdout) == (1, True)
    assert tidegate("registry", "verify").returncode == 0
    assert tidegate("registry", "verify", "--checkpoints", tmp_path / "absent").returncode == 2
    assert tidegate("registry", "verify", "--trusted-keys", tmp_path / "absent").returncode == 2


def test_commits_cut_off_are_found_with_a_checkpoint_kept_elsewhere(
    tidegate: Command, registry: Registry, root: Path, tmp_path: Path
) -> None:
    registry.promote(MODEL, 1, to="production", actor="ana", reason="first")
    assert tidegate("registry", "checkpoint", MODEL, "--out", tmp_path / "kept").returncode == 0
    (root / "models" / MODEL / "log" / f"{3:020d}.json").unlink()
    for path in (root / "models" / MODEL / "checkpoints").iterdir():
        path.unlink()
    assert tidegate("registry", "verify").returncode == 0
    done = tidegate("registry", "verify", "--checkpoints", tmp_path / "kept")
    assert (done.returncode, "the newest commits were cut off" in done.stdout) == (1, True)


def test_gc_tells_first_and_removes_only_when_told_to(tidegate: Command, registry: Registry, root: Path) -> None:
    digest = registry.blobs.put("left", b"of a writer that died").sha256
    blob = root / "blobs" / "sha256" / digest[:2] / digest
    assert "0 values" in tidegate("registry", "gc").stdout  # too young
    os.utime(blob, (0, 0))
    told = tidegate("registry", "gc")
    assert (told.returncode, digest in told.stdout, blob.exists()) == (0, True, True)
    assert json.loads(tidegate("registry", "gc", "--json").stdout)[0]["what"] == "blob"
    done = tidegate("registry", "gc", "--delete")
    assert (done.returncode, "1 values of 21 bytes removed" in done.stdout, blob.exists()) == (0, True, False)


def test_a_version_is_carried_to_another_registry_as_one_file(tidegate: Command, registry: Registry, tmp_path: Path) -> None:
    file = tmp_path / "two.tidegate"
    assert tidegate("registry", "export", MODEL, 2, "--out", file).returncode == 0
    assert tidegate("registry", "export", MODEL, 2, "--out", file).returncode == 1
    arguments = ("--reason", "carried", "--registry", tmp_path / "elsewhere")
    done = tidegate("registry", "import", file, "--as", "tide", *arguments, "--json")
    assert json.loads(done.stdout) | {"imported_from": None} == {"model": "tide", "version": 1, "imported_from": None}
    assert open_registry(str(tmp_path / "elsewhere")).read("tide", 1, "model.onnx") == registry.read(MODEL, 2, "model.onnx")
    file.write_bytes(file.read_bytes()[:4000])
    assert tidegate("registry", "import", file, *arguments).returncode == 1
    assert tidegate("registry", "import", tmp_path / "absent", *arguments).returncode == 2


def test_watch_writes_each_commit_as_it_comes_until_it_is_interrupted(registry: Registry, root: Path) -> None:
    # Tests that run in the background inherit an ignored SIGINT, which a person's terminal does not.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from clients.cli.main import run; run()"
    command = [sys.executable, "-c", code, "registry", "watch", MODEL, "--since", "1", "--json", "--registry", str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["seq"] == 2
    registry.note(MODEL, actor="ana", reason="seen at once")
    start = time.monotonic()
    entry = json.loads(process.stdout.readline())
    assert (entry["seq"], entry["reason"], time.monotonic() - start < 5) == (3, "seen at once", True)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=10)[1] == ""
    assert process.returncode == 0
