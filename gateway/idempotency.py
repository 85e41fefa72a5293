"""Idempotency-Key on POST /transcribe (draft-ietf-httpapi-idempotency-key-header-07).

Which job a key made is decided by the script that accepts it (worker/jobs/scripts/accept.lua): it stores key
and job in one step, so a gateway that is killed leaves both or neither, and a job is never made twice. The
key lives as long as the job.

Beside that, a short lease marks a request that is being read, only to answer a second one at once instead of
after its upload. It is renewed while its gateway lives and decides nothing: where it is lost, the script
still sees to it that there is one job.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import anyio
from fastapi import Header
from fastapi.concurrency import run_in_threadpool

from gateway.errors import InFlight
from worker.jobs import Once
from worker.jobs.keys import idempotency_key
from worker.logs import get_logger
from worker.patience import AWAY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis

    from gateway.job_request import JobRequest

log = get_logger(__name__)

LONGEST_KEY = 255
LEASE_S = 30
RENEW_S = LEASE_S / 3
RETRY_AFTER_S = 2
# Only the holder's own lease, not one that another took after it had run out.
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('EXPIRE', KEYS[1], ARGV[2]) end"
_LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=LONGEST_KEY,
        pattern="^[ -~]*$",
        description="Sent again with the same key and request, a submit is the same job (docs/api.md).",
    ),
]


@dataclass(frozen=True)
class Claim:
    """A client's key in use by one request. ``key``: where Redis remembers it; empty where none was given.

    ``is_known``: a job was made with it, and is still there.
    """

    key: str = ""
    is_known: bool = False

    def once(self, request: JobRequest, content: str) -> Once | None:
        return Once(self.key, fingerprint(request, content)) if self.key else None


@asynccontextmanager
async def claimed(client: redis.Redis, owner: str, key: str | None) -> AsyncIterator[Claim]:
    """Hold the client's key while its request is taken.

    Raises:
        InFlight: another request holds it. And what redis-py raises while the server is away.
    """
    if key is None:
        yield Claim()
        return
    name, holder = idempotency_key(owner, bare(key)), secrets.token_hex(8)
    lease = f"{name}:lease"
    is_known = await run_in_threadpool(_take, client, name, lease, holder)
    renewing = asyncio.create_task(_renew(client, lease, holder))
    try:
        yield Claim(name, is_known)
    finally:
        renewing.cancel()
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(_let_go, client, lease, holder)


def fingerprint(request: JobRequest, content: str) -> str:
    """What tells this request from another with the same key.

    Args:
        content: The recording's SHA-256; of a URL, which is part of the request, that of nothing.
    """
    asked = json.dumps(request.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(f"{asked}\n{content}".encode()).hexdigest()


def bare(key: str) -> str:
    """The key without the quotes that the draft asks for and many clients leave out (RFC 8941, 3.3.3)."""
    text = key.strip()
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1].replace('\\"', '"').replace("\\\\", "\\") if is_quoted else text


def _take(client: redis.Redis, name: str, lease: str, holder: str) -> bool:
    if not client.set(lease, holder, nx=True, ex=LEASE_S):
        raise InFlight(
            "a request with this Idempotency-Key is being taken right now: send it again when it has ended",
            retry_after_s=RETRY_AFTER_S,
        )
    return bool(client.exists(name))


async def _renew(client: redis.Redis, lease: str, holder: str) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        with suppress(*AWAY):
            await run_in_threadpool(client.eval, _RENEW, 1, lease, holder, LEASE_S)


def _let_go(client: redis.Redis, lease: str, holder: str) -> None:
    try:
        client.eval(_LET_GO, 1, lease, holder)
    except AWAY as exc:  # it runs out by itself
        log.warning("idempotency_lease_stays", error=type(exc).__name__)
