"""Rules, their tests and their runbooks belong together; promtool accepts the rules and runs their tests."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from clients.cli.main import main
from tests.deploy.dockerfiles import ROOT, load
from tests.prometheus import FOLDER, RULES, found

TESTS = sorted((FOLDER / "tests").glob("*.yml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
HEADINGS = ["What it means", "How to confirm", "What to do", "When it is a false alarm", "Who to tell"]


def rules() -> list[dict[str, Any]]:
    """Every rule of every file."""
    return [rule for path in RULES for group in load(path)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def kebab(alert: str) -> str:
    """`TidegateDaemonDown` -> `tidegate-daemon-down`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", alert).lower()


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    done = subprocess.run(
        [found("promtool"), "check", "rules", *RULES], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(path: Path) -> None:
    done = subprocess.run([found("promtool"), "test", "rules", path], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_cases_that_fire_and_cases_that_must_not() -> None:
    cases = [case for path in TESTS for test in load(path)["tests"] for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


def test_every_alert_says_how_urgent_it_is_and_what_happened() -> None:
    for name, alert in ALERTS.items():
        assert alert["labels"]["severity"] in {"page", "ticket"}, name
        assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}, name
        assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{kebab(name)}.md", name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in RUNBOOKS.glob("*.md")}
    assert set(texts) == {kebab(name) for name in ALERTS}
    for name, alert in ALERTS.items():
        text = texts[kebab(name)]
        assert text.startswith(f"# {name}\n"), name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS, name
        assert f"**{alert['labels']['severity']}**" in text, name


def test_the_queries_of_runbooks_are_promql(tmp_path: Path) -> None:
    blocks = [block for text in runbooks() for block in re.findall(r"```promql\n(.*?)```", text, re.DOTALL)]
    queries = [line for block in blocks for line in block.splitlines()]
    assert len(queries) > len(ALERTS)
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": recorded}]}))
    done = subprocess.run([found("promtool"), "check", "rules", path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_commands_of_runbooks_are_commands_with_such_flags(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {command for text in runbooks() for command in re.findall(r"(?:^ *|`)(tidegate [^`\n]+)", text, re.MULTILINE)}
    assert any(" rollback " in command for command in commands)
    for command in commands:
        assert main([*shlex.split(command)[1:], "--help"]) == 0, f"{command}: {capsys.readouterr().err}"


def runbooks() -> list[str]:
    """The text of every runbook."""
    return [path.read_text(encoding="utf-8") for path in sorted(RUNBOOKS.glob("*.md"))]


def test_every_recorded_series_that_is_read_is_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    read = {name for rule in rules() for name in re.findall(r"\btidegate:[a-z0-9_:]+", rule["expr"])}
    assert read <= recorded


def test_all_windows_of_drift_are_judged_alike() -> None:
    groups = {group["name"]: group["rules"] for group in load(FOLDER / "rules" / "drift.yml")["groups"]}

    def as_an_hour(window: str, name: str) -> str:
        (text,) = [rule["expr"] for rule in groups[f"tidegate-drift-{window}"] if rule["record"] == f"tidegate:drift_{name}:{window}"]
        summed = re.sub(rf"sum_over_time\((\S+)\[{window}:1h\]\)", r"\1", str(text))
        return summed.replace(f":{window}", ":1h")

    for name in ("share", "psi", "ks", "noise", "excess", "detected"):
        assert as_an_hour("1h", name) == as_an_hour("6h", name) == as_an_hour("24h", name)
