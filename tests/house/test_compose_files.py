"""What ships in the compose files: no default password, no port open to others, nothing that runs as root."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.settings import Settings

ROOT = Path(__file__).parents[2]
FILES = ["compose.cpu.yaml", "compose.gpu.yaml"]
SECRETS = ("PASSWORD", "AUTH", "KEY", "TOKEN", "SECRET")
# Of the secrets in .env, what a process really uses; the gateway has to know only whether there is a bucket.
BUCKET = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
NEEDED = {
    "gateway": {"API_KEYS", "WEBHOOK_SECRET"},
    "worker": {"HF_TOKEN", "OPENAI_API_KEY", *BUCKET},
    "sweeper": {"WEBHOOK_SECRET", *BUCKET},
    "exporter": set(),
}
OWN_IMAGES = {"gateway": "gateway/Dockerfile", "worker": "worker/Dockerfile"}


def services(file: str) -> dict[str, dict[str, Any]]:
    """Each service with what it extends."""
    content = yaml.safe_load((ROOT / file).read_text())
    found = {}
    for name, service in content["services"].items():
        base = service.get("extends")
        inherited = services(base["file"])[base["service"]] if base else {}
        both = [inherited.get("environment", {}), service.get("environment", {})]
        found[name] = {**inherited, **service, "environment": both[0] | both[1]}
    return found


CASES = [(file, name) for file in FILES for name in services(file)]
every_service = pytest.mark.parametrize(("file", "name"), CASES)


def test_both_stacks_have_the_same_services() -> None:
    assert set(services(FILES[0])) == set(services(FILES[1]))
    assert {"redis", "gateway", "worker", "sweeper", "flower"} <= set(services(FILES[0]))


@pytest.mark.parametrize("file", FILES)
def test_no_secret_has_a_value_or_a_default(file: str) -> None:
    text = (ROOT / file).read_text()
    for name, default in re.findall(r"\$\{([A-Z_]+)(:-[^}]*)?", text):
        if name.endswith(SECRETS):
            assert not default, f"{name} has a default"
    for line in text.splitlines():
        setting = re.match(r"\s*([A-Z_]+): *(\S+)", line)
        if setting and setting[1].endswith(SECRETS):
            assert setting[2].startswith(("${", '""')), line


def secrets_of_settings() -> set[str]:
    """Every one that .env may hold but Redis' own, which is in each process's REDIS_URL."""
    fields = Settings.model_fields.items()
    secret = {name.upper() for name, field in fields if "SecretStr" in str(field.annotation)}
    return {*secret, "AWS_ACCESS_KEY_ID", "FLOWER_BASIC_AUTH"} - {"REDIS_URL"}


@every_service
def test_each_process_is_given_the_secrets_that_it_uses(file: str, name: str) -> None:
    service = services(file)[name]
    if "env_file" not in service:
        return  # it gets what its environment names
    emptied = {key for key, value in service["environment"].items() if value == ""}
    told_of = {key for key, value in service["environment"].items() if value == f"${{{key}:+set}}"}
    assert told_of == (BUCKET if name == "gateway" else set())
    assert secrets_of_settings() - emptied - told_of == NEEDED[name]


@pytest.mark.parametrize("file", FILES)
def test_the_file_of_api_keys_is_a_secret_of_the_gateway_alone(file: str) -> None:
    content = yaml.safe_load((ROOT / file).read_text())
    assert content["secrets"] == {"api_keys": {"file": "${API_KEYS_FILE:-/dev/null}"}}
    assert [name for name, service in services(file).items() if "secrets" in service] == ["gateway"]
    inside = services(file)["gateway"]["environment"]["API_KEYS_FILE"]
    assert inside == "${API_KEYS_FILE:+/run/secrets/api_keys}"


@every_service
def test_ports_are_bound_to_loopback_unless_told_otherwise(file: str, name: str) -> None:
    for port in services(file)[name].get("ports", []):
        assert re.match(r"\$\{[A-Z]+_BIND:-127\.0\.0\.1\}:", port), port


@pytest.mark.parametrize("file", FILES)
def test_redis_and_the_worker_have_no_port(file: str) -> None:
    assert "ports" not in services(file)["redis"]
    assert "ports" not in services(file)["worker"]


@every_service
def test_each_container_may_do_little(file: str, name: str) -> None:
    service = services(file)[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["restart"] == "unless-stopped"
    assert service["mem_limit"]
    assert service["pids_limit"]


@every_service
def test_nobody_is_root(file: str, name: str) -> None:
    service = services(file)[name]
    user = service.get("user")
    if user is None:
        built = service.get("build") or {"dockerfile": "gateway/Dockerfile"}
        user = re.findall(r"^USER (\S+)", (ROOT / built["dockerfile"]).read_text(), re.MULTILINE)[-1]
    assert user.split(":")[0] not in ("root", "0")


@every_service
def test_each_has_a_health_check(file: str, name: str) -> None:
    service = services(file)[name]
    if "healthcheck" not in service:
        built = service["build"]["dockerfile"]
        assert re.search(r"^HEALTHCHECK ", (ROOT / built).read_text(), re.MULTILINE)


@pytest.mark.parametrize("dockerfile", OWN_IMAGES.values())
def test_images_are_on_python_and_get_no_settings_file(dockerfile: str) -> None:
    text = (ROOT / dockerfile).read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, re.MULTILINE))
    assert all(base in stages or base.startswith("python:3.12") for base in bases)
    assert not re.search(r"\.env\b", text)
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def metric_names() -> set[str]:
    """Those that the exporter's code names, and their parts."""
    text = "".join((ROOT / f"ops/{name}.py").read_text() for name in ("metrics", "service_metrics"))
    return set(re.findall(r'["_]([a-z]+(?:_[a-z0-9]+)+|up|verdict|gateways)"', text)) | {"jobs_ended"}


@pytest.mark.parametrize("file", ["ops/prometheus/alerts.yml", "ops/grafana/dashboards/transcription.json"])
def test_alerts_and_dashboard_ask_for_figures_that_there_are(file: str) -> None:
    asked = set(re.findall(r"transcription_([a-z0-9_]+)", (ROOT / file).read_text()))
    plain = {re.sub(r"_(bucket|total)$", "", name) for name in asked}
    assert plain
    assert plain <= metric_names()


def test_every_alert_has_its_entry_in_the_runbook() -> None:
    rules = yaml.safe_load((ROOT / "ops/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
    page = (ROOT / "docs/operations.md").read_text()
    assert [rule["alert"] for rule in rules if f"### {rule['alert']}\n" not in page] == []


def test_the_page_names_the_figures_that_there_are_and_no_others() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    _, _, table = page.partition("| figures, all with the prefix `transcription_` |")
    rows = [row.split("|")[1] for row in table.partition("\n\n")[0].splitlines()[2:]]
    named = {name.removesuffix("_total") for row in rows for name in re.findall(r"`([a-z_*]+)`", row)}
    families = tuple(name.removesuffix("*") for name in named if name.endswith("*"))
    other_words = {"body_bytes", "in_flight", "metrics_listening", "metrics_unavailable", "size_bytes"}
    there = metric_names() - other_words
    assert {name for name in named if not name.endswith("*")} <= there
    assert {name for name in there if not name.startswith(families)} <= named
