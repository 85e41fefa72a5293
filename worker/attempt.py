"""One attempt at one job, in seven steps, each testable alone.

    load     read the record, take the job for this delivery
    admit    make room: remove what has expired, look at the disk
    fetch    of a job with a URL: bring the recording, or what is missing of it
    run      recording -> 16 kHz mono -> engine, with progress
    settle   write the result aside, under a name no other attempt uses
    deliver  bring it to the bucket that the client named, if it did
    record   commit: the record names the result, if this attempt still owns the job

Owns the order of the steps, and those between the first and the last. These two, and all else that is said
in the record, are worker/claim.py's; what becomes of the job when a step fails is worker/outcomes.py's.

Before a delivery the record names the settled result, with the job still running. From there on the job
can't fail for a worker's death: the next attempt begins at the delivery, and where there is none, the
sweeper completes the job with the result kept here.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from worker.cache import remove_expired
from worker.cache.folder import write_durably
from worker.claim import Claim
from worker.delivery.bucket import bucket_of, not_delivered
from worker.delivery.document import to_document
from worker.engines.checkpoints import FolderCheckpoints, recording_id
from worker.engines.oom import with_room
from worker.engines.protocol import Options
from worker.errors import DiskFull, EngineUnavailable, InputMissing, Interrupted
from worker.jobs.owners import OwnerBooks
from worker.logs import get_logger
from worker.outcomes import as_job_error
from worker.patience import patiently
from worker.progress import CONVERT, FETCH, Abandoned

if TYPE_CHECKING:
    from pathlib import Path

    from worker.engines.protocol import Checkpoints, Transcript
    from worker.jobs.options import JobOptions

log = get_logger(__name__)


class Attempt(Claim):
    """One run of one job."""

    def carry_out(self) -> dict[str, Any]:
        self.load()
        if not self.fields:
            self.admit()
            self.fetch()
            self.settle(self.run())
        self.deliver()
        return self.record()

    def admit(self) -> None:
        # Patiently: an outage is no reason to repeat an attempt.
        patiently(lambda: remove_expired(self.tools.cache, self.tools.store, time.time(), self.tools.forget))
        if not self.url and not self.folder.input.exists():
            raise InputMissing("the recording is no longer in the cache: submit it again")
        self._require_space()

    def fetch(self) -> None:
        if not self.url:
            return
        self.reporter.own_steps = (FETCH, CONVERT)
        if (
            self.folder.input.exists()
        ):  # an earlier attempt has brought it, and may not have been able to say so
            self.keep_books(self.folder.input.stat().st_size)
            return
        from worker.sources.bringing import bring_recording  # noqa: PLC0415  the child's business alone

        self.reporter.step(FETCH)
        fetched = bring_recording(
            self.url,
            self.owner,
            self.folder.input,
            self.tools.settings,
            self.reporter.still_fetching,
            self.reporter.fetching,
            self.tools.cache.require_space,
            patiently(self._room_bytes),
        )
        self.keep_books(fetched.size_bytes)
        log.info("recording_fetched", size_bytes=fetched.size_bytes, resumed_bytes=fetched.resumed_bytes)

    def run(self) -> Transcript:
        from worker.sources.convert import convert  # noqa: PLC0415  loads PyAV: in the child only

        self.reporter.step(CONVERT)
        recording = convert(
            self.folder.input,
            self.folder.recording(self.lease),
            self._check_conversion,
            max_duration_s=self.tools.settings.max_duration_s,
        )
        choice = self.tools.choose(self.options.engine)
        self.reporter.limit(self.tools.settings.time_limit_s(recording.duration_s))
        checkpoints = FolderCheckpoints(self.folder.checkpoints, {"recording": recording_id(recording.path)})
        try:
            transcript = self._transcribe(choice.name, recording.path, checkpoints)
        except EngineUnavailable as exc:
            raise self.tools.unloadable(choice.name, exc) from exc
        warnings = recording.warnings + transcript.warnings
        return replace(transcript, warnings=warnings, engine_reason=choice.reason)

    def _transcribe(self, engine_name: str, recording: Path, checkpoints: Checkpoints) -> Transcript:
        engine = self.tools.engine(engine_name)
        return with_room(
            engine,
            self.tools.settings.on_gpu_oom,
            lambda: engine.transcribe(
                recording,
                engine_options(self.options),
                self.reporter.from_engine,
                self.reporter.check,
                checkpoints,
            ),
            lambda: self.tools.discard_engine(engine_name),
        )

    def settle(self, transcript: Transcript) -> None:
        self.reporter.steps.leave()
        content = to_document(self.task_id, transcript).model_dump_json().encode()
        result = self.folder.result(self.lease)
        try:
            write_durably(result, content)
        except FileNotFoundError as exc:  # the job was released meanwhile, folder and all
            raise Abandoned("gone") from exc
        self.fields = result_fields(result.name, len(content), transcript)

    def deliver(self) -> None:
        """Bring the result to the client's bucket; where that fails for good it stays, with a warning."""
        if self.claimed is None or not self.claimed.s3_path:
            return
        from worker.delivery.handover import hand_over  # noqa: PLC0415  loads boto3

        self.keep()
        bucket = bucket_of(self.tools.settings)
        try:
            urls = hand_over(self.claimed, self.folder.path / self.fields["result"], bucket, self._wait)
        except Exception as exc:
            error = as_job_error(exc, self.reporter.current_step)
            if error.retryable and self.number < self.tools.settings.max_attempts:
                raise
            log.warning("result_not_delivered", code=error.code, reason=error.message)
            self.fields["warnings"] = [*self.fields["warnings"], not_delivered(error)]
        else:
            self.fields |= {"result": "", "stored_bytes": 0, "s3_urls": urls}

    def _wait(self, seconds: float) -> None:
        """Between two tries of an upload."""
        time.sleep(seconds)
        self.reporter.check()

    def _room_bytes(self) -> int | None:
        books, settings = OwnerBooks(self.tools.client), self.tools.settings
        return books.room_bytes(self.owner, settings.max_stored_bytes_per_key)

    def _check_conversion(self) -> None:
        self.reporter.step(CONVERT)
        self._require_space()

    def _require_space(self) -> None:
        try:
            self.tools.cache.require_space()
        except DiskFull as exc:
            raise Interrupted("the cache's disk is full") from exc


def result_fields(name: str, size_bytes: int, transcript: Transcript) -> dict[str, Any]:
    """What a job's record says of its result in the file ``name``."""
    return {
        "result": name,
        "stored_bytes": size_bytes,  # all that is kept: tidy_up removes the rest
        "engine": transcript.engine,
        "model": transcript.model,
        "duration_s": transcript.duration_s,
        "warnings": [asdict(warning) for warning in transcript.warnings],
        "partial": transcript.partial,
        "fraction": 1.0,
        "url": "",  # it may hold credentials, and nobody needs it any more
    }


def engine_options(options: JobOptions) -> Options:
    """What the engine is told: all but the choice of the engine itself."""
    return Options(**options.model_dump(exclude={"engine"}))
