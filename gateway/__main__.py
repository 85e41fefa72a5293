"""``python -m gateway``: serve HTTP until SIGTERM, and let the requests under way end."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn

from gateway.app import create_app
from gateway.keys import BadKeys
from gateway.protocol import BoundedProtocol
from gateway.services import create_services
from worker.logs import configure_logging, get_logger
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

    from gateway.keys import KeyRing
    from worker.settings import Settings

log = get_logger(__name__)

BACKLOG = 2048
KEEP_ALIVE_S = 15
SHUTDOWN_WITHIN_S = 30


def main() -> int:
    settings = load_settings()
    configure_logging(settings, "gateway")
    try:
        services = create_services(settings)
    except BadKeys as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    if services.keys.is_open and not may_be_open(settings, host):
        sys.stderr.write(
            f"GATEWAY_HOST: without API_KEYS only loopback is listened on, not {host}: "
            "set API_KEYS, or ALLOW_ANONYMOUS=true\n"
        )
        return 2
    log.info("gateway_listening", host=host, port=port)
    say_who_may(services.keys)
    app = create_app(settings, services)
    Server(server_config(app), app.state.changes.dismiss).run(sockets=[listener])
    return 0


def may_be_open(settings: Settings, host: str) -> bool:
    """Whether everyone who reaches this address may use the service."""
    return settings.allow_anonymous or ipaddress.ip_address(host.partition("%")[0]).is_loopback


def say_who_may(keys: KeyRing) -> None:
    if keys.is_open:
        log.warning("api_is_open", reason="no API_KEYS are set: whoever reaches this address may do anything")
    else:
        log.info("api_keys_loaded", keys=len(keys))


class Server(uvicorn.Server):
    """uvicorn's, which tells those who wait for news that it is about to stop, so that they need not wait.

    Args:
        dismiss: Lets all waiting requests end. Called on the event loop.
    """

    def __init__(self, config: uvicorn.Config, dismiss: Callable[[], None]) -> None:
        super().__init__(config)
        self._dismiss = dismiss

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._dismiss()
        await super().shutdown(sockets)


def listen(settings: Settings) -> socket.socket:
    """The listening socket; where it can't be had, end the process with a line that names the setting."""
    host, port = settings.gateway_host, settings.gateway_port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        # A resolver's error has a negative number and a text of its own.
        reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror
        sys.stderr.write(f"GATEWAY_PORT: can't listen on {host} port {port}: {reason}\n")
        raise SystemExit(1) from None


def server_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,  # its loggers pass through ours
        access_log=False,  # request_finished takes its place (gateway.middleware)
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_WITHIN_S,
    )


if __name__ == "__main__":
    sys.exit(main())
