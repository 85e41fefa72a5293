"""The job: what the client asked for, as one record in Redis, and the only scripts that change it.

Knows Redis. Must not know Celery, HTTP or engines.
"""

from worker.jobs.admission import Admission, Once, OwnerLimits, Verdict
from worker.jobs.moves import Fence, MoveOutcome
from worker.jobs.owners import OwnerBooks
from worker.jobs.priority import Priority
from worker.jobs.record import ANONYMOUS, JobRecord, new_task_id, owner_of
from worker.jobs.states import MOVES, JobState
from worker.jobs.store import JobStore

__all__ = [
    "ANONYMOUS",
    "MOVES",
    "Admission",
    "Fence",
    "JobRecord",
    "JobState",
    "JobStore",
    "MoveOutcome",
    "Once",
    "OwnerBooks",
    "OwnerLimits",
    "Priority",
    "Verdict",
    "new_task_id",
    "owner_of",
]
