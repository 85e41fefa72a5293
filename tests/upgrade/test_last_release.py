"""The last release's own processes beside ours, as in a rolling upgrade, in either order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.service import ROOT
from tests.upgrade.release import check_out

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.service import Service


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return check_out(tmp_path / "old")


def test_the_old_worker_does_what_the_new_gateway_accepted(service: Service, old: Path) -> None:
    service.start_gateway()
    service.start_sweeper()
    service.root = old
    service.start_worker("old")
    assert service.wait_for(service.submit(), "completed")["attempt"] == 1


def test_a_job_that_the_old_worker_began_is_ended_by_the_new_one(service: Service, old: Path) -> None:
    service.settings["SIMULATED_SCRIPT"] = '{"speed": 0.5}'  # a minute for the sample
    service.root = old
    worker = service.start_all()  # all of it is the last release
    task_id = service.submit()
    service.wait_for(task_id, "processing")
    service.root = ROOT
    service.start_worker("new", SIMULATED_SCRIPT='{"speed": 600}')
    worker.kill()
    assert service.wait_for(task_id, "completed")["attempt"] == 2
