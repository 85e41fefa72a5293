"""One LeaseKeeper for each process, server and set of options."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.streams.hooks import hooks
from worker.streams.leases import LeaseKeeper

if TYPE_CHECKING:
    from worker.streams.options import Options

_CONNECT_TIMEOUT_S = 2.0
_keepers: dict[tuple[Any, ...], LeaseKeeper] = {}


def keeper_for(connection_parameters: dict[str, Any], options: Options) -> LeaseKeeper:
    """The process's keeper for this server. A forked child gets one of its own, without leases."""
    address = (connection_parameters.get(part) for part in ("host", "port", "path", "db"))
    key = (os.getpid(), *address, options)
    keeper = _keepers.get(key)
    if keeper is None:
        client = _create_client(connection_parameters, options)
        keeper = _keepers.setdefault(key, LeaseKeeper(client, options, _stop_attempt))
    return keeper


def _stop_attempt(lease_id: str) -> bool:
    return hooks.stop_attempt(lease_id)  # looked up late: a worker sets it after its first read


def _create_client(parameters: dict[str, Any], options: Options) -> redis.Redis:
    mine = dict(parameters, socket_timeout=options.renew_s)
    if "socket_connect_timeout" in mine:  # not with a unix socket
        mine["socket_connect_timeout"] = min(_CONNECT_TIMEOUT_S, options.renew_s)
    # One more try where the server closed an idle connection; a timeout is not tried again here.
    mine["retry"] = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    return redis.Redis(connection_pool=redis.ConnectionPool(**mine))
