"""Which engine does a job, and the reason that is given for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from worker.engines.choice import choose
from worker.errors import EngineUnavailable
from worker.settings import Settings

STANDIN = Path(__file__).parent / "mst/standin"


def settings(**changes: Any) -> Settings:
    return Settings(_env_file=None, **changes)  # type: ignore[call-arg]  pydantic-settings' own


@pytest.fixture
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(STANDIN)


def test_auto_is_whisper_where_the_package_is_not_installed() -> None:
    choice = choose(settings(diarization_model="none"))
    assert (choice.name, "not installed" in choice.reason) == ("whisper", True)


@pytest.mark.usefixtures("_installed")
def test_auto_is_whisper_where_a_token_is_missing_and_says_which() -> None:
    choice = choose(settings())
    assert choice.name == "whisper"
    assert "HF_TOKEN" in choice.reason
    assert "DIARIZATION_MODEL" in choice.reason


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("changes", [{"hf_token": "t"}, {"diarization_model": "none"}])
def test_auto_is_mst_where_it_can_work(changes: dict[str, str]) -> None:
    choice = choose(settings(**changes))
    assert choice.name == "mst"
    assert choice.reason.startswith("ENGINE=auto")


@pytest.mark.usefixtures("_installed")
def test_a_folder_needs_no_token(tmp_path: Path) -> None:
    assert choose(settings(diarization_model=str(tmp_path))).name == "mst"


def test_what_the_operator_set_is_taken() -> None:
    assert choose(settings(engine="mst")).reason == "ENGINE=mst"


def test_a_job_may_ask_for_what_auto_could_be() -> None:
    assert choose(settings(), "mst").reason == "the job asked for it"
    with pytest.raises(EngineUnavailable, match="ENGINES_ALLOWED"):
        choose(settings(), "simulated")
