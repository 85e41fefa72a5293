"""Jobs put into any state by hand, gateways as real processes, and the bytes they are sent."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.support.service import Service
from worker.jobs import Fence, JobRecord, JobState, JobStore, MoveOutcome, new_task_id
from worker.streams import GROUP

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from worker.cache import Cache, JobFolder

STREAM = "test:jobs"
MIB = 1024**2


def wav(size_bytes: int = 44) -> bytes:
    """Bytes that begin as a WAV file does."""
    return (b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(size_bytes))[:size_bytes]


def document(task_id: str, **fields: Any) -> dict[str, Any]:
    segment = {"start": 0.0, "end": 1.5, "transcript": "Good morning.", "speaker_name": "Ann", "topic": None}
    plain = {"engine": "test", "model": "m", "language": "en", "duration_s": 2.0, "segments": [segment]}
    return {"task_id": task_id, **plain, **fields}


@dataclass
class Jobs:
    """Puts jobs into any state, by the moves a worker makes."""

    client: redis.Redis
    cache: Cache

    def __post_init__(self) -> None:
        self.store = JobStore(self.client, group=GROUP, expiry_s=3600)

    def wait(self, **fields: Any) -> str:
        task_id = new_task_id()
        record = JobRecord(
            **{"id": task_id, "state": JobState.WAITING, "created_at": time.time(), "fraction": 0.0, **fields}
        )
        assert self.store.accept(record, max_waiting=10**6)
        folder = self.folder(task_id)
        folder.create()
        folder.input.write_bytes(wav())
        return task_id

    def run(self, **fields: Any) -> str:
        task_id = self.wait(**fields)
        lease = self.deliver()
        outcome = self.store.claim(task_id, lease, attempt=1, worker="w@test", now=time.time())
        assert outcome is MoveOutcome.MOVED
        return task_id

    def deliver(self) -> str:
        """An entry that is pending for a worker; its lease."""
        if not self.client.exists(STREAM):
            self.client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        entry_id = str(self.client.xadd(STREAM, {"m": "x"}))
        self.client.xreadgroup(GROUP, "w@test", {STREAM: ">"})
        return f"{entry_id}@{STREAM}"

    def let_go(self, lease: str) -> None:
        assert self.client.xack(STREAM, GROUP, lease.partition("@")[0]) == 1

    def lease(self, task_id: str) -> str:
        record = self.store.get(task_id)
        assert record is not None
        return record.lease

    def commit(self, result: dict[str, Any] | None = None, **fields: Any) -> str:
        """A completed job whose worker has yet to tell Celery and to acknowledge."""
        task_id = self.run(**fields)
        lease = self.lease(task_id)
        path = self.folder(task_id).result(lease)
        path.write_text(json.dumps(result or document(task_id), ensure_ascii=False))
        outcome = self.store.complete(task_id, lease, now=time.time(), fields={"result": path.name})
        assert outcome is MoveOutcome.MOVED
        return task_id

    def complete(self, result: dict[str, Any] | None = None, **fields: Any) -> str:
        task_id = self.commit(result, **fields)
        self.let_go(self.lease(task_id))
        return task_id

    def fail(self, code: str = "not_audio", message: str = "no audio in it") -> str:
        task_id = self.run()
        lease = self.lease(task_id)
        outcome = self.store.fail(
            task_id,
            code=code,
            message=message,
            step="convert",
            now=time.time(),
            lease=lease,
            fence=Fence.HOLD,
        )
        assert outcome is MoveOutcome.MOVED
        self.let_go(lease)
        return task_id

    def folder(self, task_id: str) -> JobFolder:
        return self.cache.folder(task_id)


def started(folder: Path, **settings: str) -> Service:
    service = Service(folder, settings)
    service.start_gateway()
    return service


def is_published(client: redis.Redis, task_id: str) -> bool:
    """Whether a stream holds an entry that names the job."""
    streams = client.scan_iter(_type="stream")
    return any(task_id in str(client.xrange(stream)) for stream in streams)
