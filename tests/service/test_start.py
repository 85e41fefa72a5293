"""What a process says when it can't start: one line that names the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.service import Service


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"WHISPER_MODEL": "/nowhere"}, "WHISPER_MODEL"),
        ({"ENGINE": "simulated", "SIMULATED_SCRIPT": '{"speeed": 1}'}, "SIMULATED_SCRIPT"),
        ({"LEASE_S": "1"}, "LEASE_S"),
    ],
)
def test_a_worker_that_could_only_fail_jobs_takes_none(
    service: Service, settings: dict[str, str], told: str
) -> None:
    worker = service.start("worker", "worker", **settings)
    assert worker.popen.wait(30) != 0
    lines = worker.log.splitlines()
    assert told in lines[-1]
    assert "Traceback" not in worker.log
