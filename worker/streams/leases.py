"""The leases that this process holds: renewed, ended, or given back.

Owns the process's side of every delivery, from the read to the acknowledgement. Knows Redis; must not
know kombu's channels or Celery.

A lease is the entry's place in the stream's pending list, and lasts while it is renewed. For scripts that
must know whether a lease is still held, inside the same script as what they write:

    -- lease: '<entry id>@<stream>'
    local id, stream = string.match(lease, '^([%d%-]+)@(.+)$')
    local reply = redis.pcall('XPENDING', stream, 'celery', id, id, 1)
    local held = not reply['err'] and #reply == 1

Entry ids are never pending for two owners: reclaiming makes a new entry.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import redis

from worker.streams import scripts
from worker.streams.bases import text
from worker.streams.keys import GROUP, front_and_dead, split_lease_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.streams.options import Options

log = logging.getLogger(__name__)

AWAY = (redis.RedisError, OSError)
"""Reasons to try again: away, loading, read-only, out of memory. All of them pass."""

RETRY_S = 0.3
"""Pause after a failure: short, so that owners are the first to be back after an outage."""


def lease_held(client: redis.Redis, lease_id: str) -> bool:
    """Whether the delivery is still its worker's: neither ended nor given to another."""
    stream, entry_id = split_lease_id(lease_id)
    try:
        return bool(client.xpending_range(stream, GROUP, min=entry_id, max=entry_id, count=1))
    except redis.ResponseError as exc:
        if "NOGROUP" in str(exc):
            return False
        raise


@dataclass(slots=True)
class Lease:
    """``ending``: an acknowledgement or a return is on its way. ``survivor``: its channel is gone.

    ``cause``: what ended the attempt, where the worker has seen it.
    """

    ending: bool = False
    survivor: bool = False
    cause: str = ""


class LeaseKeeper:
    """Holds and ends the leases of one process on one server.

    Outlives kombu's channels, which a reconnect replaces, and renews in a thread of its own on connections
    of its own: a worker's event loop stands still while it reconnects, drains at shutdown, or runs a task
    in a solo pool. ``client`` needs a socket timeout well below the lease.

    ``on_lost`` is called in that thread with the id of a lease that went to another, again and again until
    it returns True: nothing of the attempt can run any more.
    """

    def __init__(self, client: redis.Redis, options: Options, on_lost: Callable[[str], bool]) -> None:
        self.consumer = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self.pid = os.getpid()
        self._client = client
        self._options = options
        self._on_lost = on_lost
        self._held: dict[str, Lease] = {}
        self._unsent: dict[str, Callable[[], None]] = {}
        self._lost: list[str] = []
        self._lock = threading.Lock()  # guards the three above, never held during a command
        self._renewing = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, lease_id: str) -> None:
        with self._lock:
            self._held[lease_id] = Lease()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
                self._thread.start()

    def has(self, lease_id: str) -> bool:
        """Whether the lease is held, be it only until its end is known to the server."""
        with self._lock:
            return lease_id in self._held

    def holds(self, lease_id: str) -> bool:
        """Whether the lease is held and nothing has been done to end it."""
        with self._lock:
            lease = self._held.get(lease_id)
            return lease is not None and not lease.ending

    def survive(self, lease_id: str) -> None:
        """The lease's channel is closed, but the attempt runs on."""
        with self._lock:
            if lease_id in self._held:
                self._held[lease_id].survivor = True

    def survivors(self) -> set[str]:
        """Leases of attempts that outlived their channel."""
        with self._lock:
            return {name for name, lease in self._held.items() if lease.survivor and not lease.ending}

    def note_cause(self, lease_id: str, cause: str) -> None:
        """What ended the attempt: a counted return that is about to follow will say so."""
        with self._lock:
            if lease_id in self._held:
                self._held[lease_id].cause = cause

    def ack(self, lease_id: str) -> None:
        """End the delivery: the job is done. A lost lease is only logged: another attempt has the job."""
        self._end(lease_id, lambda: self._ack(lease_id))

    def give_back(self, lease_id: str, *, counted: bool, why: str) -> None:
        """End the delivery without a result; ``counted`` where that is a failed attempt.

        ``why`` is for the log and the dead letters; a noted cause says more.
        """
        attempts = self._options.max_attempts
        why = (counted and self._cause(lease_id)) or why
        self._end(lease_id, lambda: self._requeue(lease_id, int(counted), attempts, why))

    def bury(self, lease_id: str, why: str) -> None:
        """Move the delivery to the dead letters at once."""
        self._end(lease_id, lambda: self._requeue(lease_id, 1, 0, why))

    def confirm(self, lease_id: str) -> bool:
        """Renew one lease now; False: it was lost, or the server can't tell, and it is let go."""
        stream, entry_id = split_lease_id(lease_id)
        try:
            if entry_id in self._claim(stream, [entry_id]):
                return True
        except AWAY as exc:
            log.warning("could not confirm lease %s: %r", lease_id, exc)
        with self._lock:
            self._held.pop(lease_id, None)
        return False

    def renew(self) -> bool:
        """Send what could not be sent, then renew every lease; False while another thread does so.

        Raises what redis-py raises while the server is away.
        """
        if not self._renewing.acquire(blocking=False):
            return False
        try:
            self._send_unsent()
            for stream, leases in self._held_by_stream().items():
                self._renew(stream, leases)
        finally:
            self._renewing.release()
        return True

    def close(self) -> None:
        """Stop renewing. Leases still held expire."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self._client.connection_pool.disconnect()

    def _cause(self, lease_id: str) -> str:
        with self._lock:
            lease = self._held.get(lease_id)
            return lease.cause if lease is not None else ""

    def _end(self, lease_id: str, command: Callable[[], None]) -> None:
        with self._lock:
            self._held.setdefault(lease_id, Lease()).ending = True
        try:
            command()
        except AWAY as exc:
            log.warning("could not end lease %s, will try again: %r", lease_id, exc)
            with self._lock:
                self._unsent[lease_id] = command
        else:
            with self._lock:
                self._held.pop(lease_id, None)

    def _ack(self, lease_id: str) -> None:
        stream, entry_id = split_lease_id(lease_id)
        if not scripts.run(self._client, scripts.ACK, [stream], [GROUP, entry_id]):
            log.error("late acknowledgement: lease %s was lost, or ended by an earlier try", lease_id)

    def _requeue(self, lease_id: str, counted: int, max_attempts: int, why: str) -> None:
        stream, entry_id = split_lease_id(lease_id)
        keys = [stream, *front_and_dead(stream)]
        reply = scripts.run(
            self._client, scripts.REQUEUE, keys, [GROUP, entry_id, counted, max_attempts, why]
        )
        level = logging.WARNING if counted else logging.INFO
        log.log(level, "gave back %s: %s (%s)", lease_id, text(reply[0]), why)

    def _send_unsent(self) -> None:
        with self._lock:
            unsent, self._unsent = self._unsent, {}
        for lease_id, command in unsent.items():
            self._end(lease_id, command)

    def _held_by_stream(self) -> dict[str, dict[str, str]]:
        by_stream: dict[str, dict[str, str]] = {}
        with self._lock:
            for lease_id in self._held:
                stream, entry_id = split_lease_id(lease_id)
                by_stream.setdefault(stream, {})[entry_id] = lease_id
        return by_stream

    def _renew(self, stream: str, leases: dict[str, str]) -> None:
        renewed = self._claim(stream, list(leases))
        for entry_id, lease_id in leases.items():
            if entry_id not in renewed:
                self._note_lost(lease_id)

    def _claim(self, stream: str, entry_ids: list[str]) -> set[str]:
        # JUSTID: a renewal is no delivery. Min-idle 0 can't steal: an entry that went to another is gone.
        try:
            found = self._client.xclaim(stream, GROUP, self.consumer, 0, [*entry_ids], justid=True)
        except redis.ResponseError as exc:
            if "NOGROUP" not in str(exc):
                raise
            return set()  # the server was wiped: no lease is left
        return {text(entry_id) for entry_id in found}

    def _note_lost(self, lease_id: str) -> None:
        with self._lock:
            lease = self._held.get(lease_id)
            if lease is None or lease.ending:  # it ended while the renewal was under way
                return
            del self._held[lease_id]
            self._lost.append(lease_id)
        log.error("lease %s was lost", lease_id)

    def _stop_lost(self) -> None:
        with self._lock:
            lost = list(self._lost)
        for lease_id in lost:
            if self._on_lost(lease_id):
                with self._lock:
                    self._lost.remove(lease_id)

    def _run(self) -> None:
        pause_s = self._options.renew_s
        while not self._stopped.wait(pause_s):
            pause_s = self._options.renew_s if self._tick() else RETRY_S

    def _tick(self) -> bool:
        """Renew and stop what is lost; False: come again soon."""
        try:
            self.renew()
            self._stop_lost()
        except AWAY as exc:
            log.warning("could not renew leases: %r", exc)
            return False
        except Exception:  # the loop's top: without this thread every job would be lost
            log.exception("could not renew leases")
            return False
        return not self._lost and not self._unsent
