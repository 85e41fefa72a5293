"""How long jobs waited and ran, counted in buckets for the metrics exporter.

One hash for the service's life, so that the counts go on whichever worker or exporter restarts. Its fields:

    <measure>|<engine>|<device>|<bucket's upper bound, or sum>
    ended|<engine>|<device>|<completed, or an error's code>
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from redis.exceptions import RedisError

from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from worker.jobs import JobRecord, JobStore

log = get_logger(__name__)

MEASURES_KEY = "job-measures"
ON_CPU = "cpu"
NOWHERE = "none"
SUM = "sum"
COMPLETED = "completed"
INF = "+Inf"
_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600)
# Upper bounds, each measure's own: seconds, seconds, lengths of the recording in a second.
BOUNDS: dict[str, tuple[float, ...]] = {
    "wait": _SECONDS,
    "run": _SECONDS,
    "speed": (0.25, 0.5, 1, 2, 5, 10, 20, 40, 80, 160),
}


@dataclass(frozen=True)
class Sample:
    measure: str
    engine: str
    device: str
    bound: str  # or SUM
    value: float


def device_of(worker: str) -> str:
    """A worker's device, as a label: a pool's worker is named for it, a CPU worker for its process.

    Without the host: a container has a new one each time, and every label is a series for ever. ``worker``
    is empty of a job that nobody works on.
    """
    if not worker:
        return NOWHERE
    named = re.match(r"gpu[\d.]*", worker)
    return named.group() if named else ON_CPU


def observations(record: JobRecord, *, speed_tells: bool) -> dict[str, float]:
    """What an ended job tells, by measure."""
    if record.started_at is None or record.ended_at is None:
        return {}
    found = {"wait": max(0.0, record.started_at - record.created_at)}
    if not speed_tells:
        return found
    run_s = found["run"] = max(0.0, record.ended_at - record.started_at)
    if record.duration_s and run_s:
        found["speed"] = record.duration_s / run_s
    return found


def count_job(client: redis.Redis, record: JobRecord, engine: str, *, speed_tells: bool) -> None:
    """Add an ended job to the counts; without runs and speeds where its time went elsewhere, too."""
    where = f"{record.engine or engine}|{device_of(record.worker)}"
    pipe = client.pipeline(transaction=False)
    pipe.hincrby(MEASURES_KEY, f"ended|{where}|{record.error_code or COMPLETED}", 1)
    found = {} if record.error_code else observations(record, speed_tells=speed_tells)
    for measure, value in found.items():
        pipe.hincrby(MEASURES_KEY, f"{measure}|{where}|{bucket(measure, value)}", 1)
        pipe.hincrbyfloat(MEASURES_KEY, f"{measure}|{where}|{SUM}", round(value, 3))
    pipe.execute()


def count_end(client: redis.Redis, store: JobStore, task_id: str, engine: str) -> None:
    """Add a job that was ended by another than its attempt; that is not worth an error."""
    try:
        record = store.get(task_id)
        if record is not None:
            count_job(client, record, record.options.engine or engine, speed_tells=False)
    except RedisError as exc:
        log.warning("job_not_counted", error=type(exc).__name__)


def bucket(measure: str, value: float) -> str:
    """The upper bound of the one bucket that ``value`` is counted in."""
    return upper_bound(BOUNDS[measure], value)


def upper_bound(bounds: Sequence[float], value: float) -> str:
    return next((f"{bound:g}" for bound in bounds if value <= bound), INF)


def read_figures(client: redis.Redis, key: str) -> dict[str, float]:
    """A hash of numbers."""
    rows = cast("dict[str, str]", client.hgetall(key))
    return {name: float(value) for name, value in rows.items()}


def read_samples(client: redis.Redis) -> list[Sample]:
    samples = []
    for name, value in sorted(read_figures(client, MEASURES_KEY).items()):
        measure, engine, device, bound = name.split("|")
        samples.append(Sample(measure, engine, device, bound, value))
    return samples
