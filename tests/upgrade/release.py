"""The last release: its records and its entry as it wrote them, and its code from the history.

There is none before 0.1.0, so it is the last commit whose records have no number of their format. With each
release: name it here, and keep what it writes in tests/data/formats.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.service import ROOT, SAMPLE, Service
from worker.jobs import keys

if TYPE_CHECKING:
    from pathlib import Path

    import redis

LAST_RELEASE = "86693bb6b47bdb827bcb36c3b667d3f81adfb1bc"
QUEUE = "q:{transcribe}:high"


@dataclass(frozen=True)
class Frozen:
    """``entry`` names the job of ``records["waiting"]``, and so do the running and the completed one."""

    entry: dict[str, str]
    records: dict[str, dict[str, str]]

    @classmethod
    def read(cls, release: str) -> Frozen:
        kept = json.loads((ROOT / f"tests/data/formats/{release}.json").read_text())
        return cls(kept["entry"], kept["records"])

    @property
    def task_id(self) -> str:
        return self.records["waiting"]["id"]

    def put(self, client: redis.Redis, state: str, **changed: str) -> str:
        """The record of this state as the release left it, but not long expired; its task id."""
        record = {**self.records[state], **changed}
        if "expires_at" in record:
            record["expires_at"] = str(time.time() + 1000)
        client.hset(keys.job_key(record["id"]), mapping=record)
        return record["id"]

    def submit(self, service: Service, client: redis.Redis, **changed: str) -> str:
        """All that the release's gateway left behind a 202."""
        task_id = self.put(client, "waiting", **changed)
        client.zadd(keys.WAITING_INDEX, {task_id: 1.0})
        client.hincrby(keys.LOAD, "waiting_bytes", int(self.records["waiting"]["size_bytes"]))
        folder = service.cache / "jobs" / task_id
        folder.mkdir(parents=True)
        shutil.copy(SAMPLE, folder / "input")
        client.xadd(QUEUE, {**self.entry})
        return task_id


def check_out(folder: Path) -> Path:
    """The release's code in ``folder``."""
    packed = subprocess.run(
        ["git", "archive", LAST_RELEASE, "worker", "gateway", "ops"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder
