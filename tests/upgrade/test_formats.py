"""Jobs of another release than the one that works on them: what it wrote is read, run, or left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.upgrade.release import Frozen
from worker.jobs.record import FORMAT

if TYPE_CHECKING:
    from tests.support.service import Process, Service

RELEASES = ["0.1.0"]
SHOWN = {"waiting": "pending", "running": "processing", "completed": "completed", "failed": "failed"}


@pytest.mark.parametrize("release", RELEASES)
def test_a_job_that_a_release_accepted_is_done(service: Service, release: str) -> None:
    with service.redis.client() as client:
        task_id = Frozen.read(release).submit(service, client)
    service.start_all()
    status = service.wait_for(task_id, "completed")
    assert (status["attempt"], status["warnings"]) == (1, [])
    assert service.download(task_id).json()["language"] == "en"
    assert service.http.delete(f"/release/{task_id}").status_code == 204


@pytest.mark.parametrize("state", SHOWN)
@pytest.mark.parametrize("release", RELEASES)
def test_the_gateway_reads_every_record_of_a_release(service: Service, release: str, state: str) -> None:
    frozen = Frozen.read(release)
    service.start_gateway()
    with service.redis.client() as client:
        status = service.status(frozen.put(client, state))
    assert status["status"] == SHOWN[state]
    assert (status["error"] or {}).get("code") == frozen.records[state].get("error_code")


def test_a_job_of_a_newer_release_waits_for_a_newer_worker(service: Service) -> None:
    """It is neither run nor lost nor counted as tried, and the jobs behind it go on."""
    with service.redis.client() as client:
        newer = Frozen.read(RELEASES[-1]).submit(
            service, client, format=str(FORMAT + 1), field_to_come="something"
        )
    present = service.start_all()
    service.wait(lambda: present.said('"job_of_newer_format"'), 20, "the worker to leave the job alone")
    service.wait_for(service.submit(), "completed")
    status = service.status(newer)
    assert (status["status"], status["attempt"], status["error"]) == ("pending", 0, None)

    start_newer_worker(service)
    present.end()  # and gives back what it holds until its time
    assert service.wait_for(newer, "completed")["attempt"] == 1
    with service.redis.client() as client:
        assert client.xlen("q:{transcribe}:dead") == 0


def start_newer_worker(service: Service) -> Process:
    newer = service.start("worker-newer", "tests.upgrade.newer_worker", "--name", "newer@test")
    service.wait(lambda: newer.said('"worker_ready"'), 30, "the newer worker to be ready")
    return newer
