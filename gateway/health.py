"""Is this process alive, and can the service do its work?"""

import tempfile
import time
from collections.abc import Callable
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from gateway.services import Services, ServicesOf
from worker.cache import require_own_cache
from worker.errors import ServiceError
from worker.gpu.report import State, read_reports
from worker.gpu.verdict import Colour, judge_all
from worker.heartbeat import live_workers
from worker.patience import AWAY
from worker.problems import current_problems

router = APIRouter(tags=["service"])

DEADLINE_S = 1.8
PROBES = 12

Probe = Callable[[Services], str]


class Alive(BaseModel):
    status: str = "alive"


class Check(BaseModel):
    name: str
    ok: bool
    reason: str


class Readiness(BaseModel):
    status: str
    checks: list[Check]


@router.get("/health/live")
async def live() -> Alive:
    """This process answers. Needs no thread, no Redis, no disk."""
    return Alive()


async def _limiter(request: Request) -> anyio.CapacityLimiter:
    limiter: anyio.CapacityLimiter = request.app.state.probe_limiter
    return limiter


@router.get("/health/ready", responses={503: {"model": Readiness, "description": "Something is missing."}})
async def ready(
    response: Response, services: ServicesOf, limiter: Annotated[anyio.CapacityLimiter, Depends(_limiter)]
) -> Readiness:
    """Redis, the cache and workers are there; what is not, with the reason."""
    checks: list[Check] = []

    async def run(name: str, probe: Probe) -> None:
        checks.append(await checked(name, probe, services, limiter))

    async with anyio.create_task_group() as group:
        for name, probe in PROBES_BY_NAME.items():
            group.start_soon(run, name, probe)
    is_ready = all(check.ok for check in checks)
    response.status_code = 200 if is_ready else 503
    return Readiness(status="ready" if is_ready else "not_ready", checks=sorted(checks, key=lambda c: c.name))


async def checked(name: str, probe: Probe, services: Services, limiter: anyio.CapacityLimiter) -> Check:
    """Run one probe, for DEADLINE_S at most: a frozen disk holds its thread, but not the answer."""
    with anyio.move_on_after(DEADLINE_S):
        return await to_thread.run_sync(
            outcome, name, probe, services, abandon_on_cancel=True, limiter=limiter
        )
    return Check(name=name, ok=False, reason=f"no answer within {DEADLINE_S:g} seconds")


def outcome(name: str, probe: Probe, services: Services) -> Check:
    try:
        return Check(name=name, ok=True, reason=probe(services))
    except ServiceError as exc:
        return Check(name=name, ok=False, reason=exc.message)
    except AWAY:
        return Check(name=name, ok=False, reason="Redis does not answer")
    except OSError as exc:
        return Check(name=name, ok=False, reason=f"the cache can't be written to: {exc.strerror}")


def probe_redis(services: Services) -> str:
    services.probe.ping()
    return "answers"


def probe_cache(services: Services) -> str:
    shortage = services.cache.shortage()
    if shortage:
        raise ServiceError(shortage)
    require_own_cache(services.probe, services.cache)
    with tempfile.TemporaryFile(dir=services.cache.jobs) as file:
        file.write(b"x")
    return "writable"


def probe_workers(services: Services) -> str:
    """Not ready where none is alive, or where the verdict of GET /gpus is red."""
    now = time.time()
    workers = live_workers(services.probe, now)
    problems = [f"{name}: {reason}" for name, reason in current_problems(services.probe, now).items()]
    if not workers:
        raise ServiceError("; ".join(["no worker has been heard of lately: jobs wait", *problems]))
    reports = read_reports(services.probe, now)
    verdict = judge_all(reports, now).verdict
    if reports and verdict.colour is Colour.RED:  # a worker that has just begun has not reported yet
        raise ServiceError("; ".join([f"{verdict.reason}: jobs wait, see GET /gpus", *problems]))
    refusals = [
        f"{one.worker}: {one.reason}" for one in reports if one.state is State.REFUSING and one.reason
    ]
    return "; ".join([f"{len(workers)} alive", *([verdict.reason] if reports else []), *refusals, *problems])


PROBES_BY_NAME: dict[str, Probe] = {"redis": probe_redis, "cache": probe_cache, "workers": probe_workers}
