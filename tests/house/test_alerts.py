"""The alert rules, evaluated by Prometheus' own promtool; without it, only their coverage is looked at."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "ops/prometheus/alerts.yml"
CASES = ROOT / "tests/house/alerts_test.yml"
PROMTOOL = shutil.which("promtool")

needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="needs promtool: install Prometheus (Debian: apt-get install prometheus)"
)


def promtool(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run(
        [PROMTOOL, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def rules() -> list[dict[str, Any]]:
    return list(yaml.safe_load(RULES.read_text())["groups"][0]["rules"])


def alert_names() -> list[str]:
    return [rule["alert"] for rule in rules()]


@needs_promtool
def test_rules_and_configuration_are_valid() -> None:
    for arguments in (
        ("check", "rules", "ops/prometheus/alerts.yml"),
        ("check", "config", "--syntax-only", "ops/prometheus/prometheus.yml"),
    ):
        answer = promtool(*arguments)
        assert answer.returncode == 0, answer.stdout + answer.stderr


@needs_promtool
def test_each_alert_fires_for_its_reason_and_not_before() -> None:
    answer = promtool("test", "rules", "tests/house/alerts_test.yml")
    assert answer.returncode == 0, answer.stdout + answer.stderr


@needs_promtool
@pytest.mark.parametrize("expr", ["vector(1)", "vector(1) > 2"])
@pytest.mark.parametrize("name", alert_names())
def test_a_rule_that_always_or_never_fires_is_noticed(name: str, expr: str, tmp_path: Path) -> None:
    broken = yaml.safe_load(RULES.read_text())
    next(rule for rule in broken["groups"][0]["rules"] if rule["alert"] == name)["expr"] = expr
    (tmp_path / "alerts.yml").write_text(yaml.safe_dump(broken))
    cases = yaml.safe_load(CASES.read_text()) | {"rule_files": ["alerts.yml"]}
    (tmp_path / "cases.yml").write_text(yaml.safe_dump(cases))
    answer = promtool("test", "rules", "cases.yml", cwd=tmp_path)
    assert answer.returncode != 0
    assert name in answer.stdout + answer.stderr


def test_each_alert_is_seen_firing_and_silent() -> None:
    looks = [look for case in yaml.safe_load(CASES.read_text())["tests"] for look in case["alert_rule_test"]]
    assert {look["alertname"] for look in looks if look.get("exp_alerts")} == set(alert_names())
    assert {look["alertname"] for look in looks if not look.get("exp_alerts")} == set(alert_names())
