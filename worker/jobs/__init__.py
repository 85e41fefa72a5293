"""The job: what the client asked for, as one record in Redis, and the only scripts that change it.

Knows Redis. Must not know Celery, HTTP or engines.
"""

from worker.jobs.priority import Priority
from worker.jobs.record import JobRecord, new_task_id
from worker.jobs.states import MOVES, JobState
from worker.jobs.store import Fence, JobStore, MoveOutcome

__all__ = ["MOVES", "Fence", "JobRecord", "JobState", "JobStore", "MoveOutcome", "Priority", "new_task_id"]
