"""The shared folder: where a job's bytes lie, how a result gets there, when they go.

    <cache>/cache-id                         pairs the folder with its Redis
    <cache>/jobs/<task id>/input             as the client sent it, or as it came from its URL
                           input.part(.json) what has come of it so far, and what that is part of
                           recording.<n>.wav 16 kHz mono, made by the attempt <n>
                           result.<n>.json   the one result is the one that the record names

Knows files and job records. Must not know Celery, HTTP or engines.
"""

from worker.cache.expiry import remove_expired, remove_orphans, remove_strays
from worker.cache.folder import Cache, JobFolder
from worker.cache.identity import require_own_cache
from worker.cache.survey import Contents, survey

__all__ = [
    "Cache",
    "Contents",
    "JobFolder",
    "remove_expired",
    "remove_orphans",
    "remove_strays",
    "require_own_cache",
    "survey",
]
