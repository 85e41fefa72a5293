"""What every worker tells of itself and its device, and where that is kept."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import redis

    from worker.gpu.readings import Reading, Versions

REPORTS_KEY = "worker-reports"  # hash: worker name -> WorkerReport as JSON
REPORT_EVERY_S = 2.0
FORGOTTEN_AFTER_S = 86_400.0


class State(StrEnum):
    LOADING = "loading"  # its child is not up yet
    READY = "ready"
    BUSY = "busy"
    REFUSING = "refusing"  # the device has no room, or is too hot or too busy
    DRAINING = "draining"
    RESTARTING = "restarting"  # it died, and waits for its next start
    FAULTY = "faulty"
    MISSING = "missing"  # the driver does not list the device any more


class DeviceReport(BaseModel):
    """A device at one moment. null is what it does not tell."""

    uuid: str
    label: str = Field(description="NVML's index; GPU.INSTANCE for an instance of a GPU (MIG).")
    name: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    free_bytes: int | None = None
    ours_bytes: int | None = Field(
        None, description="Of them, by this worker's process; null: can't be told."
    )
    utilisation_percent: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle_reasons: list[str] = Field(default_factory=list, description="Why its clocks are lowered.")
    uncorrected_ecc: int | None = None
    faults: list[str] = Field(default_factory=list)
    driver_version: str | None = None
    cuda_version: str | None = None


class JobReport(BaseModel):
    task_id: str
    step: str
    fraction: float
    running_s: float
    speed_x: float | None = Field(None, description="Seconds of the recording for each second of work.")


class WorkerReport(BaseModel):
    model_config = ConfigDict(frozen=True)

    worker: str
    at: float = Field(description="When it said so, in Unix seconds.")
    state: State
    reason: str
    admitted: bool = Field(description="Whether it would take a job, were it idle.")
    degraded: str = Field("", description="What is amiss though it works; empty: nothing.")
    device: DeviceReport | None = Field(None, description="null: it computes on the CPU.")
    engine: str = ""
    model_loaded: bool = False
    job: JobReport | None = None
    jobs_done: int = 0
    attempts_failed: int = 0


def describe(reading: Reading, versions: Versions | None, ours_bytes: int | None) -> DeviceReport:
    return DeviceReport(
        uuid=reading.device.uuid,
        label=reading.device.label,
        name=reading.device.name,
        total_bytes=reading.total_bytes,
        used_bytes=reading.used_bytes,
        free_bytes=reading.free_bytes,
        ours_bytes=ours_bytes,
        utilisation_percent=reading.utilisation_percent,
        temperature_c=reading.temperature_c,
        power_w=reading.power_w,
        power_limit_w=reading.power_limit_w,
        throttle_reasons=list(reading.throttle_reasons),
        uncorrected_ecc=reading.uncorrected_ecc,
        faults=[fault.text for fault in reading.faults],
        driver_version=versions.driver if versions else None,
        cuda_version=versions.cuda if versions else None,
    )


def used_by(reading: Reading, pid: int, *, loaded: bool) -> int | None:
    """Bytes that the process ``pid`` holds; None where the driver does not know it.

    The driver tells the host's process ids: in a container of its own pids ours is not among them.
    """
    mine = [one.used_bytes for one in reading.processes if one.pid == pid]
    if mine:
        return mine[0]
    return None if loaded else 0


def publish_report(client: redis.Redis, report: WorkerReport) -> None:
    pipe = client.pipeline(transaction=False)
    pipe.hset(REPORTS_KEY, report.worker, report.model_dump_json())
    pipe.expire(REPORTS_KEY, int(FORGOTTEN_AFTER_S))
    pipe.execute()


def drop_report(client: redis.Redis, worker: str) -> bool:
    """Forget a worker, for it ended in order, or an operator knows that it will not come back."""
    return bool(client.hdel(REPORTS_KEY, worker))


def read_reports(client: redis.Redis, now: float) -> list[WorkerReport]:
    """The last report of every worker that was heard of within a day, in the order of their names."""
    found = cast("dict[str, str]", client.hgetall(REPORTS_KEY))
    reports = [WorkerReport.model_validate_json(text) for text in found.values()]
    old = [report.worker for report in reports if now - report.at > FORGOTTEN_AFTER_S]
    if old:
        client.hdel(REPORTS_KEY, *old)
    return sorted((one for one in reports if one.worker not in old), key=lambda report: report.worker)
