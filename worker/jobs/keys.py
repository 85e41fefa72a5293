"""The Redis keys of job records. Queue keys are worker.streams' own; docs/architecture.md has the table."""

from __future__ import annotations

import hashlib

WAITING_INDEX = "jobs:waiting"
RUNNING_INDEX = "jobs:running"
ENDED_INDEX = "jobs:ended"
LOAD = "jobs:load"  # hash: bytes that wait, and what workers have lately done in how long
WEBHOOKS_DUE = "webhooks:due"  # zset: "<task id>:<event>" by the time of the next try, in Unix seconds
CHANGES = "jobs:changed"  # channel: the id of each job whose record has changed
# The owners' books; scripts/books.lua writes them.
STORED = "jobs:stored"
AUDIO = "jobs:audio"


def job_key(task_id: str) -> str:
    return f"job:{task_id}"


def owner_index(owner: str, state: str) -> str:
    return f"jobs:of:{owner}:{state}"


def idempotency_key(owner: str, key: str) -> str:
    """Remembers which job a client's Idempotency-Key made. Hashed: a client may put anything into it."""
    both = f"{owner}\n{key}"  # no owner's name has a line break
    return f"once:{hashlib.sha256(both.encode()).hexdigest()}"


def webhook_key(task_id: str, state: str) -> str:
    """Hash: the news of a job's end in this state, and how far its delivery is."""
    return f"webhook:{task_id}:job.{state}"


def tombstone_key(task_id: str) -> str:
    """Marks a released or expired job, so that it answers 410 and not 404.

    The id is hashed, so that after a release no trace of it is left.
    """
    return f"gone:{hashlib.sha256(task_id.encode()).hexdigest()[:32]}"
