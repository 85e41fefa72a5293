"""What the sweepers have done and seen, kept for the metrics exporter.

Two hashes: counts for the service's life, and what the cache held when it was last looked at. Of several
sweepers whichever comes first looks at the cache, and not oftener than its size allows.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from worker.cache import survey
from worker.measures import read_figures

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis

    from worker.cache import Cache

COUNTS_KEY = "sweeper-counts"  # hash: event -> how often, ever; last_repair -> when
CONTENTS_KEY = "cache-contents"  # hash: files, size_bytes, took_s, at
EVENTS = {
    "sweep": "sweeps for lost leases",
    "repair": "repairs of jobs and files",
    "attempt_lost": "jobs shown as waiting again after their attempt died",
    "job_dead": "jobs whose every attempt died",
    "entry_republished": "jobs that had lost their entry in the queue",
    "entry_dropped": "entries of jobs that were gone",
    "orphan_removed": "folders that no job knew",
    "strays_removed": "folders with files that their job does not name",
}
LAST_REPAIR = "last_repair"
STUCK = "stuck_folders"
_REST = 20  # a look that took a second is not repeated for so many


def count(client: redis.Redis, events: Mapping[str, int]) -> None:
    """Add to the counts; names are EVENTS'."""
    pipe = client.pipeline(transaction=False)
    for event, times in Counter(events).items():
        if times:
            pipe.hincrby(COUNTS_KEY, event, times)
    pipe.execute()


def note_repair(client: redis.Redis, now: float, stuck_folders: int) -> None:
    """Args: stuck_folders: those that should have gone in this repair, and have not."""
    client.hset(COUNTS_KEY, mapping={LAST_REPAIR: f"{now:.1f}", STUCK: stuck_folders})


def look_at_cache(client: redis.Redis, cache: Cache, now: float) -> bool:
    """Count what the cache holds, unless that was done lately for what it costs; whether it was done."""
    last = read_figures(client, CONTENTS_KEY)
    if now - last.get("at", 0.0) < _REST * last.get("took_s", 0.0):
        return False
    found = survey(cache)
    figures: dict[Any, Any] = {
        "files": found.files,
        "size_bytes": found.size_bytes,
        "took_s": round(found.took_s, 3),
        "at": round(now, 1),
    }
    client.hset(CONTENTS_KEY, mapping=figures)
    return True
