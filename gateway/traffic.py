"""What passes through the gateways, counted for the metrics exporter.

A process counts in memory, on its event loop, and adds its counts to one hash on the server every few
seconds: so there is one figure however many gateways there are, and it goes on whichever restarts. What a
killed process had not added yet is lost, and what was added without an answer is added twice: these are
figures, not books. The hash's fields, all bounded in number:

    requests|<method>|<route's template>|<2xx ... 5xx, or none where no answer was begun>
    seconds|<method>|<route's template>|<bucket's upper bound, or sum>
    refused|<an error's code>
    body_bytes
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

import redis
from anyio import to_thread

from worker.logs import get_logger
from worker.measures import SUM, upper_bound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

log = get_logger(__name__)

TRAFFIC_KEY = "gateway-traffic"  # hash: the counts of all gateways, ever
GATEWAYS_KEY = "gateways"  # hash: process -> "<requests open>|<when it said so>"
REPORT_EVERY_S = 5.0
SILENT_AFTER_S = 20.0
# Uploads of hours and waiting polls are among the requests.
SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600)
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_CLASS = 100


class Tally:
    """One process's counts since it last added them. For its event loop alone."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._sums: dict[str, float] = {}
        self.open = 0

    def begin(self) -> None:
        self.open += 1

    def receive(self, size_bytes: int) -> None:
        self._counts["body_bytes"] += size_bytes

    def end(self, method: str, route: str, status: int, code: str | None, seconds: float) -> None:
        """Args: status: 0 where no answer was begun. code: why it was refused, if it was."""
        self.open -= 1
        where = f"{method if method in METHODS else 'other'}|{route}"
        self._counts[f"requests|{where}|{status_class(status)}"] += 1
        self._counts[f"seconds|{where}|{upper_bound(SECONDS, seconds)}"] += 1
        total = f"seconds|{where}|{SUM}"
        self._sums[total] = self._sums.get(total, 0.0) + seconds
        if code:
            self._counts[f"refused|{code}"] += 1

    def take(self) -> dict[str, float]:
        """All counts, which begin anew."""
        taken = {**self._counts, **self._sums}
        self._counts, self._sums = Counter(), {}
        return taken

    def give_back(self, taken: Mapping[str, float]) -> None:
        """Count what could not be added once more."""
        for name, value in taken.items():
            if isinstance(value, int):
                self._counts[name] += value
            else:
                self._sums[name] = self._sums.get(name, 0.0) + value


def status_class(status: int) -> str:
    return f"{status // _CLASS}xx" if status else "none"


@asynccontextmanager
async def reporting(tally: Tally, client: redis.Redis) -> AsyncIterator[None]:
    """While this is open, add the counts every REPORT_EVERY_S; the rest at its end."""
    process = f"{socket.gethostname()}:{os.getpid()}"

    async def report_for_ever() -> None:
        while True:
            await report(tally, client, process)
            await asyncio.sleep(REPORT_EVERY_S)

    task = asyncio.create_task(report_for_ever())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await report(tally, client, process)


async def report(tally: Tally, client: redis.Redis, process: str) -> None:
    taken = tally.take()
    try:
        await to_thread.run_sync(add, client, taken, process, tally.open)
    except redis.RedisError as exc:
        tally.give_back(taken)
        log.warning("traffic_not_reported", error=type(exc).__name__)


def add(client: redis.Redis, counts: Mapping[str, float], process: str, open_requests: int) -> None:
    now = time.time()
    silent = [name for name, (_, at) in read_gateways(client).items() if now - at > SILENT_AFTER_S]
    pipe = client.pipeline(transaction=True)
    for name, value in counts.items():
        if isinstance(value, int):
            pipe.hincrby(TRAFFIC_KEY, name, value)
        else:
            pipe.hincrbyfloat(TRAFFIC_KEY, name, round(value, 6))
    if silent:
        pipe.hdel(GATEWAYS_KEY, *silent)
    pipe.hset(GATEWAYS_KEY, process, f"{open_requests}|{now:.1f}")
    pipe.execute()


def read_gateways(client: redis.Redis) -> dict[str, tuple[int, float]]:
    """Each gateway's open requests, and the Unix time at which it told."""
    rows = cast("dict[str, str]", client.hgetall(GATEWAYS_KEY))
    parted = {name: row.partition("|") for name, row in rows.items()}
    return {name: (int(count), float(at)) for name, (count, _, at) in parted.items()}
