"""``python -m worker``: take jobs from the stream and finish them, until SIGTERM.

``python -m worker check`` only loads the engine and says whether it could.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import sys
import time
from typing import TYPE_CHECKING

from celery.signals import setup_logging

from worker import streams
from worker.app import TRANSCRIBE_QUEUE, create_app
from worker.cache import require_own_cache
from worker.cache.identity import WrongCache
from worker.drain import limit_drain
from worker.engines.choice import choose
from worker.errors import EngineUnavailable, OutOfGpuMemory
from worker.guard import Guard
from worker.heartbeat import Heart
from worker.llm_watch import required_watch
from worker.logs import configure_logging
from worker.patience import AWAY, patiently
from worker.problems import report_problem
from worker.readiness import Preloader
from worker.resources import create_cache, create_client, create_store
from worker.settings import load_settings
from worker.tasks import tools_of

if TYPE_CHECKING:
    from redis import Redis

    from worker.settings import Settings


def run_worker(settings: Settings, name: str) -> int:
    """One Celery worker with one child, in this process, until it is told to stop.

    One child, because the engine batches inside: jobs side by side on one device gain less than that
    (docs/adr/0003-process-model.md). Prefork, because only there a kill costs the child alone.
    """
    configure_logging(settings, name)
    setup_logging.connect(lambda **_: None, weak=False)  # keeps Celery's hands off the root logger
    app = create_app(settings)
    client = create_client(settings, timeout_s=2.0)
    patiently(lambda: require_own_cache(client, create_cache(settings)))
    preloader = Preloader(tools_of(app).preload)
    preloader.install()
    guard = Guard(create_store(settings, client), settings.stall_s)
    try:
        llm = required_watch(settings)
    except EngineUnavailable as exc:
        return refuse(client, name, exc.message)
    if llm is None:
        streams.set_gate(preloader.is_loaded)
        Heart(client, name, preloader.is_loaded, guard.look).install()
    else:
        llm.start()
        streams.set_gate(lambda: preloader.is_loaded() and llm.is_up())
        Heart(client, name, preloader.is_loaded, guard.look, llm.problem).install()
    limit_drain(settings.drain_s)
    worker = app.Worker(hostname=name, pool="prefork", concurrency=1, queues=[TRANSCRIBE_QUEUE], quiet=True)
    worker.start()
    if preloader.failure is not None:
        return refuse(client, name, preloader.failure)
    return int(worker.exitcode or 0)


def refuse(client: Redis, name: str, reason: str) -> int:
    """Tell the operator, in the log and in /health/ready, why this worker ends without having worked."""
    with contextlib.suppress(*AWAY):
        report_problem(client, name, reason, time.time())
    sys.stderr.write(f"error: {reason}\n")
    return 1


def check_engine(settings: Settings) -> int:
    """Load the engine and say so in one line; 1 where it can't be loaded."""
    from worker.engines.registry import create  # noqa: PLC0415  only here may this process load an engine

    choice = choose(settings)
    try:
        create(choice.name, settings).prepare()
    except (EngineUnavailable, OutOfGpuMemory) as exc:
        sys.stderr.write(f"error: {exc.message}\n")
        return 1
    sys.stdout.write(f"engine {choice.name} is ready ({choice.reason})\n")
    return 0


def default_name() -> str:
    return f"cpu-{os.getpid()}@{socket.gethostname()}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default=None, help="worker name, unique among all workers: NAME@HOST")
    parser.add_argument("command", nargs="?", choices=["run", "check"], default="run")
    arguments = parser.parse_args()
    settings = load_settings()
    if arguments.command == "check":
        return check_engine(settings)
    try:
        return run_worker(settings, arguments.name or default_name())
    except WrongCache as exc:
        sys.stderr.write(f"error: {exc.message}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
