"""Tokens and keys are in no warning, log, argument or result."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from worker.errors import EngineUnavailable

if TYPE_CHECKING:
    from tests.engines.mst.bench import Bench
    from tests.engines.mst.llm_server import LlmServer

TOKEN, KEY = "hf_verysecrettoken", "sk-verysecretkey"
SECRETS: dict[str, Any] = {"hf_token": SecretStr(TOKEN), "openai_api_key": SecretStr(KEY)}


def assert_no_secret(*texts: object) -> None:
    for text in texts:
        assert TOKEN not in str(text)
        assert KEY not in str(text)


def everything_written(bench: Bench, capfd: pytest.CaptureFixture[str], caplog: Any) -> str:
    arguments = Path("/proc/self/cmdline").read_bytes().decode()
    files = [file for file in bench.folder.rglob("*") if file.is_file() and file.suffix != ".wav"]
    return "".join([*capfd.readouterr(), caplog.text, arguments, *(one.read_text() for one in files)])


def test_a_job_that_goes_well(
    bench: Bench, llm: LlmServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    engine = bench.engine(openai_base_url=llm.openai_url, **SECRETS)
    run = bench.run(engine)
    assert_no_secret(run.transcript, run.reports, repr(engine), everything_written(bench, capfd, caplog))


def test_the_key_reaches_the_server(bench: Bench, llm: LlmServer) -> None:
    bench.run(openai_base_url=llm.openai_url, **SECRETS)
    assert {one.authorization for one in llm.chats()} == {f"Bearer {KEY}"}


def test_the_server_tells_the_key_back(
    bench: Bench, llm: LlmServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    llm.mood = "unauthorized"
    run = bench.run(openai_base_url=llm.openai_url, **SECRETS)
    assert run.transcript.partial
    assert_no_secret(run.transcript, everything_written(bench, capfd, caplog))


def test_a_url_with_a_password(bench: Bench, llm: LlmServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    llm.stop()
    run = bench.run(openai_base_url=f"http://me:{KEY}@127.0.0.1:{llm.port}/v1")
    assert run.transcript.partial
    assert_no_secret(run.transcript, caplog.text)


def test_a_gated_model(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench.standin.order(gated=["pyannote/speaker-diarization-3.1"])
    with pytest.raises(EngineUnavailable) as caught:
        bench.engine(**SECRETS).prepare()
    assert_no_secret(caught.value.message, caplog.text)


def test_what_a_warning_tells_of_an_error_is_no_transcript(bench: Bench, llm: LlmServer) -> None:
    for call in ("pyannote", "setfit", "gliner"):
        bench.standin.at(call, "raise")
    run = bench.run(openai_base_url=llm.openai_url)
    reasons = " ".join(warning.reason for warning in run.transcript.warnings)
    assert not [text for text in run.texts if len(text) > 4 and text in reasons]
