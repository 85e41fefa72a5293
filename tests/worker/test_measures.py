"""How ended jobs are counted for the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from worker.jobs import JobRecord, JobState
from worker.measures import MEASURES_KEY, bucket, count_job, device_of, read_samples

if TYPE_CHECKING:
    import redis


def record(**fields: Any) -> JobRecord:
    times = {"created_at": 100.0, "started_at": 103.0, "ended_at": 113.0, "duration_s": 60.0}
    usual = {"id": "a", "state": JobState.COMPLETED, "worker": "gpu0@h", "engine": "whisper", **times}
    return JobRecord.model_validate({**usual, **fields})


def counted(client: redis.Redis) -> dict[str, float]:
    return {f"{one.measure} {one.device} {one.bound}": one.value for one in read_samples(client)}


def test_a_completed_job_counts_its_wait_its_run_and_its_speed(client: redis.Redis) -> None:
    count_job(client, record(), "", speed_tells=True)
    assert counted(client) == {
        "ended gpu0 completed": 1,
        "wait gpu0 5": 1,
        "wait gpu0 sum": 3,
        "run gpu0 15": 1,
        "run gpu0 sum": 10,
        "speed gpu0 10": 1,
        "speed gpu0 sum": 6,
    }


def test_where_time_went_elsewhere_only_the_wait_tells(client: redis.Redis) -> None:
    count_job(client, record(), "", speed_tells=False)
    assert {name.split()[0] for name in counted(client)} == {"ended", "wait"}


def test_a_failed_job_counts_its_code_alone_under_the_engine_that_was_to_do_it(client: redis.Redis) -> None:
    failed = record(state=JobState.FAILED, error_code="engine_failed", engine="", worker="cpu-7@h")
    count_job(client, failed, "mst", speed_tells=True)
    assert client.hgetall(MEASURES_KEY) == {"ended|mst|cpu|engine_failed": "1"}


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0, "1"), (1, "1"), (1.1, "5"), (43_200, "43200"), (1e6, "+Inf")]
)
def test_a_bucket_has_what_is_at_most_its_bound(seconds: float, bound: str) -> None:
    assert bucket("wait", seconds) == bound


@pytest.mark.parametrize(
    ("worker", "device"),
    [
        ("gpu1@h", "gpu1"),
        ("gpu0-2@h", "gpu0"),  # the second worker on it
        ("gpu0.1@h", "gpu0.1"),
        ("gpu-77@h", "gpu"),
        ("cpu-12@h", "cpu"),
        ("mine@h", "cpu"),
        ("", "none"),
    ],
)
def test_a_device_keeps_its_label_whatever_the_host_or_process_is_called(worker: str, device: str) -> None:
    assert device_of(worker) == device
