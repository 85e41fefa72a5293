from __future__ import annotations

import pytest

from worker.engines.whisper import WhisperEngine


@pytest.fixture(scope="session")
def engine() -> WhisperEngine:
    """Windows of 20 s, so that short recordings have several. Shared: tests must leave it as it is."""
    made = WhisperEngine(device="cpu", window_s=20)
    made.prepare()
    return made
