"""The application: its rooms put together."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from fastapi_offline import FastAPIOffline

from gateway import backlog, cancel, download, health, openapi, problems, release, status, submit
from gateway.middleware import Envelope
from gateway.services import Services, create_services
from worker import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from worker.settings import Settings

ROOMS = (submit, status, download, cancel, release, backlog, health)
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
    app.state.probe_limiter = anyio.CapacityLimiter(health.PROBES)
    for room in ROOMS:
        app.include_router(room.router)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(Envelope)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    services: Services = app.state.services
    services.client.close()
    services.probe.close()
