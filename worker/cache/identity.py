"""Whether this folder is the cache that the job records on this Redis speak of.

A worker with another folder (a volume that is not mounted, a second stack on the same Redis) would find no
recording for any job, and fail them all.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, cast

from worker.cache.folder import sync_folder, write_durably
from worker.errors import ServiceError

if TYPE_CHECKING:
    import redis

    from worker.cache.folder import Cache

IDENTITY_KEY = "cache:id"
IDENTITY_FILE = "cache-id"


class WrongCache(ServiceError):
    """The folder and the Redis server belong to different services."""

    code = "wrong_cache"


def require_own_cache(client: redis.Redis, cache: Cache) -> None:
    """Pair folder and server at their first meeting; raise WrongCache ever after where they are no pair.

    A server that was wiped is paired anew. Raises what redis-py raises while the server is away.
    """
    here = _identity(cache)
    client.set(IDENTITY_KEY, here, nx=True)
    if cast("str", client.get(IDENTITY_KEY)) != here:
        raise WrongCache(
            f"CACHE_DIR {cache.root} is not the cache that the jobs on this Redis use: mount that one "
            f"(or, if it is gone for good, delete the key {IDENTITY_KEY})"
        )


def _identity(cache: Cache) -> str:
    """The folder's id, made where it has none. Two processes that make it at once agree on one."""
    path = cache.root / IDENTITY_FILE
    if not path.exists():
        cache.root.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{IDENTITY_FILE}.{uuid.uuid4().hex}")
        write_durably(aside, uuid.uuid4().hex.encode())
        try:
            path.hardlink_to(aside)  # fails where another process was first, unlike a rename
        except FileExistsError:
            pass
        finally:
            aside.unlink()
        sync_folder(cache.root)
    return path.read_text()
