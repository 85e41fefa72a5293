"""What the docs list is what the code has."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ops.reference import (
    ENV_EXAMPLE,
    RESULT_SCHEMA,
    SETTINGS_PAGE,
    env_example,
    result_schema,
    settings_page,
)
from worker.settings import Settings, load_settings


def test_env_example_names_every_setting_and_no_other() -> None:
    assert ENV_EXAMPLE.read_text() == env_example(), "run `make reference`"


def test_the_settings_page_names_every_setting_and_no_other() -> None:
    page = SETTINGS_PAGE.read_text()
    assert page == settings_page(page), "run `make reference`"


def test_the_published_schema_is_the_documents() -> None:
    assert RESULT_SCHEMA.read_text() == result_schema(), "run `make reference`"


def test_importing_reads_no_environment() -> None:
    """Only entry points make Settings: an import with a bad variable set must not notice it."""
    code = "import worker.app, worker.tasks, worker.resources, ops.maintenance, ops.sweeper, ops.stack"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"LEASE_S": "nonsense", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LEASE_S", "1", "LEASE_S: Input should be greater than or equal to 2"),
        ("ENGINE", "magic", "ENGINE: Input should be 'auto', 'mst', 'whisper' or 'simulated'"),
        ("SWEEP_S", "6", "SWEEP_S (6) must be at most a third of LEASE_S (15)"),
        ("URL_ALLOW_HOSTS", "10.0.0.1/8", "URL_ALLOW_HOSTS: '10.0.0.1/8' is no host name"),
        ("REDIS_URL", "http://x", "REDIS_URL: must start with redis:// or rediss://"),
    ],
)
def test_a_bad_setting_is_named(
    name: str,
    value: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit_info:
        load_settings()
    assert exit_info.value.code == 2
    assert told in capsys.readouterr().err


def test_a_password_in_the_redis_url_is_not_shown() -> None:
    settings = Settings.model_validate({"redis_url": "redis://:hunter2@127.0.0.1/0"})
    assert "hunter2" not in repr(settings)
