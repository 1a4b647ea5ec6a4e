"""`tidegate registry`, `promote` and `rollback` on a folder: what they change, what they refuse, what they say to people and machines."""

import json
from datetime import UTC, datetime
from pathlib import Path

from clients.cli.output import clean
from registry.alert import Alert, Status
from registry.location import open_registry
from registry.registry import Registry
from tests.clients.cli.conftest import MODEL, Command


def test_a_promotion_is_committed_with_actor_and_reason(tidegate: Command, registry: Registry) -> None:
    done = tidegate("promote", MODEL, 2, "--to", "production", "--reason", "three is more than two")
    assert (done.returncode, done.stdout) == (0, "tides: version 2 is in production\n")
    *_, last = registry.log(MODEL)
    assert (last.change.actor, last.change.reason, last.payload) == ("ana", "three is more than two", {"stable": 2})
    assert registry.state(MODEL).production == 2


def test_a_rollback_returns_to_the_version_before(tidegate: Command, registry: Registry) -> None:
    for version in (1, 2):
        assert tidegate("promote", MODEL, version, "--to", "production", "--reason", "try").returncode == 0
    done = tidegate("rollback", MODEL, "--reason", "complaints", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["payload"] == {"stable": 1}
    assert registry.state(MODEL).production == 1


def test_what_a_rule_forbids_is_exit_1_and_changes_nothing(tidegate: Command, registry: Registry) -> None:
    registry.promote(MODEL, 1, to="production", actor="ana", reason="first")
    before = registry.state(MODEL).seq
    refused = [
        tidegate("promote", MODEL, 1, "--to", "production", "--reason", "again"),
        tidegate("promote", MODEL, 2, "--to", "production", "--reason", " "),
        tidegate("rollback", MODEL, "--reason", "there is none"),
    ]
    assert [done.returncode for done in refused] == [1, 1, 1]
    assert "already in production" in refused[0].stderr
    assert "reason" in refused[1].stderr
    assert registry.state(MODEL).seq == before


def test_an_unknown_model_or_version_is_exit_2(tidegate: Command, registry: Registry) -> None:
    del registry
    assert tidegate("promote", "tide", 1, "--to", "staging", "--reason", "r").returncode == 2
    done = tidegate("promote", MODEL, 9, "--to", "staging", "--reason", "r")
    assert done.returncode == 2
    assert "registered: 1, 2" in done.stderr


def test_list_show_and_log_tell_machines_the_same_as_people(tidegate: Command, registry: Registry) -> None:
    registry.promote(MODEL, 2, to="staging", actor="ana", reason="looks good")
    assert json.loads(tidegate("registry", "list", "--json").stdout)[0]["staging"] == 2
    assert tidegate("registry", "list").stdout.splitlines()[1].split()[:4] == [MODEL, "2", "-", "2"]
    assert [row["version"] for row in json.loads(tidegate("registry", "show", MODEL, "--json").stdout)["versions"]] == [1, 2]
    assert "staging" in tidegate("registry", "show", MODEL).stdout
    files = json.loads(tidegate("registry", "show", MODEL, 1, "--json").stdout)["files"]
    assert "model.onnx" in files
    assert files["model.onnx"]["sha256"] in tidegate("registry", "show", MODEL, 1).stdout
    assert [entry["kind"] for entry in json.loads(tidegate("registry", "log", MODEL, "--json").stdout)] == [
        "registered",
        "registered",
        "staged",
    ]
    assert "looks good" in tidegate("registry", "log", MODEL).stdout


def test_the_log_says_which_alert_was_noted_and_about_which_version(tidegate: Command, registry: Registry) -> None:
    alert = Alert("00c0ffee00c0ffee", Status.FIRING, datetime(2026, 1, 31, tzinfo=UTC), None, {"version": "2"})
    registry.note_alert(MODEL, alert, actor="alertmanager", reason="TidegateDrift: 1 of 3 features drifted")
    last = tidegate("registry", "log", MODEL).stdout.splitlines()[-1]
    assert last.split()[2:] == ["noted", "2", "alertmanager", "TidegateDrift:", "1", "of", "3", "features", "drifted"]
    assert "TidegateDrift" in tidegate("registry", "log", MODEL, "--version", 2).stdout
    assert "TidegateDrift" not in tidegate("registry", "log", MODEL, "--version", 1).stdout
    *_, entry = json.loads(tidegate("registry", "log", MODEL, "--json").stdout)
    assert entry["payload"] == {"version": 2, "alert": alert.to_json()}


def test_the_past_is_the_log_stopped_earlier(tidegate: Command, registry: Registry) -> None:
    first = registry.promote(MODEL, 1, to="production", actor="ana", reason="first")
    registry.promote(MODEL, 2, to="production", actor="ana", reason="second")
    assert json.loads(tidegate("registry", "at", MODEL, first.time.isoformat(), "--json").stdout)["production"] == 1
    assert json.loads(tidegate("registry", "at", MODEL, "2001-01-01", "--json").stdout)["production"] is None
    assert "production" in tidegate("registry", "at", MODEL, "2100-01-01").stdout


def test_verify_names_a_flipped_bit_and_exits_1(tidegate: Command, registry: Registry, root: Path) -> None:
    assert tidegate("registry", "verify").returncode == 0
    digest = registry.manifest(MODEL, 1).file("model.onnx").sha256
    blob = root / "blobs" / "sha256" / digest[:2] / digest
    content = bytearray(blob.read_bytes())
    content[10] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    done = tidegate("registry", "verify")
    assert done.returncode == 1
    assert digest in done.stdout
    found = tidegate("registry", "verify", "--json")
    assert found.returncode == 1
    assert digest in json.loads(found.stdout)["problems"][0]["key"]


def test_text_from_the_log_cannot_steer_the_terminal(tidegate: Command, registry: Registry) -> None:
    registry.promote(MODEL, 1, to="staging", actor="ana", reason="\x1b[2Jall\nis well")
    shown = tidegate("registry", "log", MODEL).stdout
    assert "\x1b" not in shown
    assert "\\x1b[2Jall\\nis well" in shown
    assert clean("é → 潮") == "é → 潮"


def test_the_registry_flag_wins_over_the_environment(tidegate: Command, registry: Registry, tmp_path: Path) -> None:
    del registry
    done = tidegate("registry", "list", "--registry", tmp_path / "elsewhere")
    assert done.returncode == 2
    assert "no registry at" in done.stderr
    assert open_registry(str(tmp_path / "registry")).models() == [MODEL]
