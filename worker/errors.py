"""Every error that a client, an operator or a log can see, as one tree.

    ServiceError                 code, http_status, retryable
    ├── RequestError             the request can't be taken as it is: the client's to mend
    │   ├── EmptyRecording, TooLarge, BadRequest
    │   ├── UrlForbidden         (also a JobError) a URL that leads where nobody may be sent
    │   └── JobNotFound, JobNotFinished, JobFailed, JobGone, S3Delivered
    ├── Unavailable              not now: try again after ``retry_after_s``
    │   └── BrokerAway, QueueFull, DiskFull
    └── JobError                 ends an attempt of an accepted job
        ├── NotAudio, TooLong, InputMissing, EngineUnavailable, EngineFailed
        ├── UrlForbidden, SourceRefused, SourceTooLarge
        ├── WorkerLost, TimeLimitExceeded, Cancelled
        ├── DeliveryFailed
        └── Interrupted          (retryable) the attempt's surroundings failed, not the recording
            ├── SourceUnavailable, SourceIncomplete
            └── OutOfGpuMemory, GpuFault, DeliveryInterrupted

``code`` is stable: clients and dashboards may compare it. A message says what is wrong and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class ServiceError(Exception):
    """Root of the tree."""

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class RequestError(ServiceError):
    code = "bad_request"
    http_status = 400


class BadRequest(RequestError):
    """A field of the request is missing, misspelt or out of range."""


class EmptyRecording(RequestError):
    code = "empty_recording"


class TooLarge(RequestError):
    code = "too_large"
    http_status = 413


class JobNotFound(RequestError):
    code = "not_found"
    http_status = 404


class JobNotFinished(RequestError):
    code = "not_finished"
    http_status = 409


class JobFailed(RequestError):
    code = "job_failed"
    http_status = 409


class JobGone(RequestError):
    """Released by its owner, or expired: its files are no more."""

    code = "gone"
    http_status = 410


class S3Delivered(RequestError):
    """The result is in the client's bucket and no longer here. ``locations``: its objects' s3:// URLs."""

    code = "s3_delivered"
    http_status = 409

    def __init__(self, message: str, locations: list[str]) -> None:
        super().__init__(message)
        self.locations = locations


class Unavailable(ServiceError):
    code = "unavailable"
    http_status = 503
    retryable = True


class BrokerAway(Unavailable):
    code = "broker_away"


class QueueFull(Unavailable):
    code = "queue_full"


class DiskFull(Unavailable):
    code = "disk_full"
    http_status = 507


class JobError(ServiceError):
    """Ends an attempt. ``retryable`` says whether another attempt can help."""

    code = "job_error"


class NotAudio(JobError):
    code = "not_audio"


class TooLong(JobError):
    """The recording lasts longer than the operator allows."""

    code = "too_long"


class UrlForbidden(RequestError, JobError):
    """Found before the job is accepted or, by its name's addresses and its redirects, while it runs."""

    code = "url_forbidden"
    http_status = 422


class SourceRefused(JobError):
    """The URL's server gives no recording, and would give none next time."""

    code = "source_refused"


class SourceTooLarge(JobError):
    code = "source_too_large"


class InputMissing(JobError):
    code = "input_missing"


class EngineUnavailable(JobError):
    """The engine or its model can't be loaded on this machine."""

    code = "engine_unavailable"


class EngineFailed(JobError):
    code = "engine_failed"


class WorkerLost(JobError):
    """Every allowed attempt ended with a dead or silent worker."""

    code = "worker_lost"


class TimeLimitExceeded(JobError):
    """The engine ran longer than a recording of this length may take."""

    code = "time_limit"


class Cancelled(JobError):
    code = "cancelled"


class Interrupted(JobError):
    code = "interrupted"
    retryable = True


class SourceUnavailable(Interrupted):
    """The URL's server is away, busy or slow."""

    code = "source_unavailable"


class SourceIncomplete(Interrupted):
    """The recording broke off, or changed, on its way from the URL's server."""

    code = "source_incomplete"


class OutOfGpuMemory(Interrupted):
    """Another program's memory, more often than the recording's: another attempt may find room."""

    code = "out_of_gpu_memory"


class GpuFault(Interrupted):
    """CUDA failed in the middle of a job. The recording may be why, so the attempt counts."""

    code = "gpu_fault"


class DeliveryFailed(JobError):
    """The result can't be delivered before someone mends the bucket, its policy or its credentials."""

    code = "delivery_failed"


class DeliveryInterrupted(Interrupted):
    """Where the result goes was slow, busy or away: a later delivery may succeed."""

    code = "delivery_interrupted"
