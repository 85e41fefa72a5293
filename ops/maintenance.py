"""What keeps the promise when something died: every function here repairs one kind of remains.

Each is safe to repeat, and safe to run in several processes at once: what it changes, it changes by a
script that looks first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery import states as celery_states

from ops import keeping
from worker import streams
from worker.app import MAINTENANCE_QUEUE, TRANSCRIBE_QUEUE
from worker.cache import remove_expired, remove_orphans, remove_strays
from worker.claim import summary
from worker.delivery.bucket import not_delivered
from worker.errors import Cancelled, WorkerLost
from worker.jobs import Fence, JobRecord, JobState, MoveOutcome, Priority
from worker.logs import get_logger
from worker.measures import count_end
from worker.resources import create_cache, create_client, create_store
from worker.tasks import publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis
    from celery import Celery

    from worker.cache import Cache
    from worker.jobs import JobStore
    from worker.settings import Settings

log = get_logger(__name__)

GAUGES_KEY = "gauges"  # hash: what the last sweep saw
GAUGES_TTL_S = 60


@dataclass(frozen=True)
class Keeper:
    """The sweeper's hands: what its tasks work with."""

    app: Celery
    settings: Settings
    client: redis.Redis
    store: JobStore
    cache: Cache

    @classmethod
    def create(cls, app: Celery, settings: Settings) -> Keeper:
        client = create_client(settings)
        return cls(app, settings, client, create_store(settings, client), create_cache(settings))

    def sweep(self) -> None:
        """Every few seconds: lost leases, lost attempts, dead letters, gauges."""
        self.reclaim()
        self.return_lost()
        self.bury_dead()
        self.publish_gauges()
        keeping.count(self.client, {"sweep": 1})

    def repair(self) -> None:
        """Every half minute or so: jobs without an entry, files without a job, expired jobs."""
        republished = self.republish_missing()
        remove_expired(self.cache, self.store, time.time(), self.forget)
        orphans = remove_orphans(self.cache, self.store, self.settings.orphan_grace_s)
        strays = remove_strays(self.cache, self.store)
        self.drop_dead_of_gone()
        dropped = self.drop_entries_of_gone()
        stuck = sum(self.cache.folder(task_id).path.exists() for task_id in orphans)
        done = {
            "repair": 1,
            "entry_republished": len(republished),
            "entry_dropped": len(dropped),
            "orphan_removed": len(orphans) - stuck,
            "strays_removed": len(strays),
        }
        keeping.count(self.client, done)
        keeping.note_repair(self.client, time.time(), stuck)
        keeping.look_at_cache(self.client, self.cache, time.time())

    def reclaim(self) -> None:
        """Give the entries of silent workers to others."""
        for lost in streams.sweep(self.client, [TRANSCRIBE_QUEUE, MAINTENANCE_QUEUE], self._options()):
            log.warning(
                "lease_expired",
                task_id=lost.task_id,
                worker=lost.consumer,
                idle_ms=lost.idle_ms,
                attempts=lost.attempts,
                outcome=lost.outcome,
            )

    def return_lost(self) -> None:
        """Show jobs as waiting again whose attempt died and whose entry waits for another worker."""
        for task_id in self.store.running_ids():
            record = self.store.get(task_id)
            if record and self.store.wait_again(record, fence=Fence.LOST) is MoveOutcome.MOVED:
                log.warning("attempt_lost", task_id=task_id, worker=record.worker, attempt=record.attempt)
                keeping.count(self.client, {"attempt_lost": 1})

    def bury_dead(self) -> None:
        """Fail the jobs whose attempts all died; their entries stay in the dead-letter stream."""
        for dead in streams.unhandled_dead(self.client, TRANSCRIBE_QUEUE):
            self._fail_lost(dead)
            streams.mark_handled(self.client, TRANSCRIBE_QUEUE, dead)

    def republish_missing(self) -> list[str]:
        """Publish the entry of jobs that were accepted but have none: the gateway died in between.

        Candidates are read first, then the streams in the order in which entries move between them, so
        an entry can't slip past the scan. Publishing twice is harmless: the second delivery finds the
        job taken.
        """
        candidates = self.store.waiting_before(time.time() - self.settings.repair_s)
        if not candidates or not self._entries_are_missing():
            return []
        present = streams.scan_task_ids(self.client, TRANSCRIBE_QUEUE)
        missing = [task_id for task_id in candidates if task_id not in present]
        for task_id in missing:
            if self.app.AsyncResult(task_id).state == celery_states.REVOKED:
                self._end_revoked(task_id)
            else:
                record = self.store.get(task_id)
                publish(self.app, task_id, record.priority if record else Priority.NORMAL)
                log.warning("entry_republished", task_id=task_id)
        return missing

    def drop_dead_of_gone(self) -> None:
        """Drop the dead letters of jobs that were released or have expired: nothing of them may stay."""
        entries = list(every_dead(self.client))
        known = self.store.known(entry.task_id for entry in entries)
        for entry in entries:
            if entry.task_id not in known:
                streams.drop_dead(self.client, TRANSCRIBE_QUEUE, entry.entry_id)

    def drop_entries_of_gone(self) -> set[str]:
        """Delete what waits in the queue for jobs that are gone; a worker would only pass over it.

        A record is written before its entry, so an entry without a record has lost it.
        """
        counts = self.store.counts()
        if streams.entry_count(self.client, TRANSCRIBE_QUEUE) <= counts.waiting + counts.running:
            return set()
        dropped = streams.drop_tasks(
            self.client, TRANSCRIBE_QUEUE, lambda task_ids: task_ids - self.store.known(task_ids)
        )
        for task_id in dropped:
            log.info("entry_dropped", task_id=task_id)
        return dropped

    def publish_gauges(self) -> None:
        counts = self.store.counts()
        oldest = counts.oldest_waiting
        gauges: dict[Any, Any] = {
            "waiting": counts.waiting,
            "running": counts.running,
            "dead": streams.stats(self.client, TRANSCRIBE_QUEUE).dead,
            "oldest_waiting_age_s": round(time.time() - oldest, 1) if oldest else 0,
            "cache_free_bytes": self.cache.free_bytes(),
            "cache_disk_bytes": self.cache.disk_bytes(),
            "at": round(time.time(), 1),
        }
        pipe = self.client.pipeline(transaction=True)
        pipe.hset(GAUGES_KEY, mapping=gauges)
        pipe.expire(GAUGES_KEY, GAUGES_TTL_S)
        pipe.execute()

    def forget(self, task_id: str) -> None:
        self.app.AsyncResult(task_id).forget()

    def _fail_lost(self, dead: streams.DeadEntry) -> None:
        record = self.store.get(dead.task_id)
        if record is None:
            return
        message = lost_message(record, dead.attempts, dead.why)
        if record.result and self._complete_kept(record, message):
            streams.drop_dead(self.client, TRANSCRIBE_QUEUE, dead.entry_id)
            return
        outcome = self.store.fail(
            dead.task_id,
            code=WorkerLost.code,
            message=message,
            step=record.step,
            now=time.time(),
            fence=Fence.LOST,
        )
        if outcome is MoveOutcome.MOVED:
            self._count_end(dead.task_id)
        if outcome is MoveOutcome.ENDED and record.error_code != WorkerLost.code:
            self._settle_ended(dead, record)
            return
        log.error("job_dead", task_id=dead.task_id, attempts=dead.attempts, why=dead.why, outcome=outcome)
        keeping.count(self.client, {"job_dead": 1})
        if outcome in {MoveOutcome.MOVED, MoveOutcome.ENDED}:
            self.app.backend.mark_as_failure(dead.task_id, WorkerLost(message))

    def _complete_kept(self, record: JobRecord, message: str) -> bool:
        """Complete a job whose result is here and whose attempts died delivering it."""
        kept = self.cache.folder(record.id).path / record.result
        if not kept.exists():
            return False
        warnings = [*record.warnings, not_delivered(WorkerLost(message))]
        fields = {"warnings": warnings, "stored_bytes": kept.stat().st_size}
        outcome = self.store.complete_kept(record.id, now=time.time(), fields=fields)
        if outcome is not MoveOutcome.MOVED:
            return False
        log.error("result_not_delivered", task_id=record.id, code=WorkerLost.code)
        self._count_end(record.id)
        self.app.backend.mark_as_done(record.id, summary(record.id, record.result))
        return True

    def _settle_ended(self, dead: streams.DeadEntry, record: JobRecord) -> None:
        """Its last attempt died after the job had ended: there is nothing to retry, only Celery to tell."""
        if record.state is JobState.COMPLETED:
            self.app.backend.mark_as_done(record.id, summary(record.id, record.result))
        streams.drop_dead(self.client, TRANSCRIBE_QUEUE, dead.entry_id)

    def _end_revoked(self, task_id: str) -> None:
        """An operator revoked the task by Celery's own command, which took its entry."""
        outcome = self.store.fail(
            task_id,
            code=Cancelled.code,
            message="the task was revoked by an operator",
            step="",
            now=time.time(),
            fence=Fence.LOST,
        )
        if outcome is MoveOutcome.MOVED:
            self._count_end(task_id)
        log.warning("job_revoked", task_id=task_id)

    def _count_end(self, task_id: str) -> None:
        count_end(self.client, self.store, task_id, self.settings.engine)

    def _entries_are_missing(self) -> bool:
        """Whether there are fewer entries than unfinished jobs: O(1), so a scan is rare."""
        counts = self.store.counts()
        return streams.entry_count(self.client, TRANSCRIBE_QUEUE) < counts.waiting + counts.running

    def _options(self) -> streams.Options:
        return streams.Options(lease_s=self.settings.lease_s, max_attempts=self.settings.max_attempts)


def every_dead(client: redis.Redis) -> Iterator[streams.DeadEntry]:
    """Every dead letter of the transcribe queue, oldest first."""
    after = "-"
    while batch := streams.list_dead(client, TRANSCRIBE_QUEUE, after=after):
        yield from batch
        after = batch[-1].entry_id


def lost_message(record: JobRecord, attempts: int, why: str) -> str:
    step = f" in step {record.step}" if record.step else ""
    return f"the worker died in each of {attempts} attempts{step} (last: {why}): the job was given up"
