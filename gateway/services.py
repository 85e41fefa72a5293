"""What the endpoints work with, made once per process and handed to them by argument."""

# Annotations here are read at run time, by FastAPI.
from dataclasses import dataclass
from typing import Annotated

import redis
from fastapi import Depends, Request
from redis.backoff import NoBackoff
from redis.retry import Retry

from gateway.dispatch import Dispatch
from gateway.failures import FailureLimit
from gateway.keys import KeyRing, load_keys
from gateway.outputs import outputs_of
from gateway.upload import Receiver
from worker.app import create_app
from worker.cache import Cache
from worker.delivery.webhook_store import WebhookStore
from worker.jobs import JobStore
from worker.resources import create_cache, create_client, create_store
from worker.settings import Settings
from worker.sources.rules import url_rules
from worker.tracing import Tracing, create_tracing

REDIS_TIMEOUT_S = 2.0
PROBE_TIMEOUT_S = 1.0


@dataclass(frozen=True)
class Services:
    settings: Settings
    client: redis.Redis
    probe: redis.Redis  # for health checks: gives up sooner, and waits for no request's connection
    store: JobStore
    cache: Cache
    dispatch: Dispatch
    receiver: Receiver
    keys: KeyRing
    failures: FailureLimit  # of the event loop alone
    webhooks: WebhookStore
    tracing: Tracing


def create_services(settings: Settings) -> Services:
    """Connects to nothing yet. Raises BadKeys."""
    client = _client(settings, REDIS_TIMEOUT_S)
    cache = create_cache(settings)
    return Services(
        settings=settings,
        client=client,
        probe=_client(settings, PROBE_TIMEOUT_S),
        store=create_store(settings, client),
        cache=cache,
        dispatch=Dispatch(create_app(settings)),
        receiver=Receiver(
            cache,
            settings.max_upload_bytes,
            settings.job_engines,
            urls=url_rules(settings),
            outputs=outputs_of(settings),
        ),
        webhooks=WebhookStore(client),
        keys=load_keys(settings),
        failures=FailureLimit(),
        tracing=create_tracing(settings, "gateway"),
    )


def _client(settings: Settings, timeout_s: float) -> redis.Redis:
    """A client that tries a broken connection once more (the server may have restarted), a silent one not."""
    client = create_client(settings, timeout_s=timeout_s)
    client.set_retry(Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)))
    return client


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(_services)]
