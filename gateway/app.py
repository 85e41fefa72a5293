"""The application: its rooms put together."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import redis.asyncio
from fastapi import Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

from gateway import (
    backlog,
    cancel,
    download,
    events,
    gpus,
    health,
    jobs,
    openapi,
    problems,
    release,
    status,
    submit,
    usage,
)
from gateway.access import identify
from gateway.changes import Changes
from gateway.middleware import Envelope
from gateway.services import REDIS_TIMEOUT_S, Services, create_services
from gateway.traffic import Tally, reporting
from worker import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from worker.settings import Settings

ROOMS = (submit, status, events, download, cancel, release, jobs, backlog, usage, gpus)
OPEN_ROOMS = (health,)  # whoever asks: everything else is for callers who are known (gateway.access)
CORS_METHODS = ("GET", "HEAD", "POST", "DELETE")
CORS_REQUEST_HEADERS = ("Authorization", "X-API-Key", "Idempotency-Key", "X-Request-ID", "Content-Type")
CORS_ANSWER_HEADERS = ("Location", "Retry-After", "X-Request-ID", "Content-Disposition", "ETag")
DESCRIPTION = "Post a recording, get a task id, poll its status, fetch the transcript as JSON or Markdown."


def create_app(settings: Settings, services: Services | None = None) -> FastAPI:
    """The ASGI application. Connects to nothing until the first request.

    Args:
        services: Made from the settings where not given.
    """
    app: FastAPI = FastAPIOffline(
        title="Transcription service",
        version=__version__,
        description=DESCRIPTION,
        redoc_url=None,
        swagger_ui_parameters={"validatorUrl": None},
        lifespan=_lifespan,
    )
    app.state.services = services or create_services(settings)
    app.state.changes = changes_of(settings)
    app.state.tally = Tally()
    app.state.probe_limiter = anyio.CapacityLimiter(health.PROBES)
    for room in ROOMS:
        app.include_router(room.router, dependencies=[Depends(identify)])
    for room in OPEN_ROOMS:
        app.include_router(room.router)
    problems.install(app)
    openapi.install(app)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=CORS_METHODS,
            allow_headers=CORS_REQUEST_HEADERS,
            expose_headers=CORS_ANSWER_HEADERS,
        )
    app.add_middleware(Envelope, tally=app.state.tally, tracing=app.state.services.tracing)
    return app


def changes_of(settings: Settings) -> Changes[status.JobStatus]:
    client = redis.asyncio.Redis.from_url(
        settings.redis_url.get_secret_value(),
        decode_responses=True,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        socket_keepalive=True,
    )
    return Changes(client)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    async with reporting(app.state.tally, services.probe):
        yield
    await run_in_threadpool(services.receiver.close)  # needs all that is closed below
    await app.state.changes.close()
    await run_in_threadpool(services.tracing.close)
    services.client.close()
    services.probe.close()
