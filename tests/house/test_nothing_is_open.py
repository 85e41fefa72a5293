"""What ships is closed: no secret in the tree, no default password, nothing listens to strangers unasked."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from tests.support.secret_search import CONTENT, FILE_NAMES, SETTING_NAMES
from worker.app import create_app
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
OPEN_BY_NATURE = {
    ".env.example",  # every value is commented out, and no secret has one (below)
    "tests/delivery/test_signing.py",  # the example that Standard Webhooks publishes
}


def shipped() -> list[str]:
    """The files of the tree, where git knows them; else all that lie here."""
    asked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = asked.stdout.split("\0")[:-1] if asked.returncode == 0 else []
    return [name for name in names if (ROOT / name).is_file()]


def test_no_file_of_the_tree_holds_a_secret() -> None:
    files = shipped()
    assert len(files) > 300, "this needs a clone, with git"
    holding = {
        name for name in files if FILE_NAMES.search(name) or CONTENT.search((ROOT / name).read_bytes())
    }
    assert holding == OPEN_BY_NATURE


def test_no_secret_setting_has_a_default() -> None:
    fields = Settings.model_fields
    secrets = {name for name, field in fields.items() if "SecretStr" in str(field.annotation)} - {"redis_url"}
    assert {"api_keys", "webhook_secret", "hf_token", "openai_api_key", "aws_secret_access_key"} == secrets
    named = {name for name in fields if SETTING_NAMES.search(name.upper())}
    given = {name: fields[name].default for name in secrets | named}
    assert [name for name, default in given.items() if default not in (None, "", SecretStr(""))] == []
    assert "@" not in fields["redis_url"].default.get_secret_value()


def test_the_example_of_settings_gives_none() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    values = dict(line[1:].partition("=")[::2] for line in lines if re.match(r"#[A-Z_]+=", line))
    assert [name for name in values if SETTING_NAMES.search(name) and values[name]] == []


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name.endswith("_host")])
def test_what_listens_listens_on_loopback(name: str) -> None:
    default = Settings.model_fields[name].default
    assert default == "" or ipaddress.ip_address(default).is_loopback


def test_without_keys_others_are_not_let_in() -> None:
    assert Settings.model_fields["allow_anonymous"].default is False


def test_nothing_from_the_queue_is_unpickled() -> None:
    conf = create_app(Settings()).conf
    assert set(conf.accept_content) == {"json"}
    assert conf.result_accept_content in (None, ["json"])
    assert (conf.task_serializer, conf.result_serializer) == ("json", "json")


def test_kubernetes_opens_no_port_to_the_outside() -> None:
    parts = list(yaml.safe_load_all((ROOT / "docs/examples/kubernetes.yaml").read_text()))
    services = [part for part in parts if part["kind"] == "Service"]
    assert [one["spec"].get("type", "ClusterIP") for one in services] == ["ClusterIP"]
    assert "Ingress" not in {part["kind"] for part in parts}


def test_redis_has_the_user_that_the_security_page_tells_of() -> None:
    script = (ROOT / "ops/start-redis.sh").read_text()
    lines = re.findall(r"^user .*$", script, re.MULTILINE)
    assert len(lines) == 2
    page = (ROOT / "docs/security.md").read_text()
    assert "\n".join(lines).replace("$REDIS_PASSWORD", "PASSWORD") in page
