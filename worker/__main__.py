"""``python -m worker``: take jobs from the stream and finish them, until SIGTERM."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING

from celery.signals import setup_logging

from worker.app import TRANSCRIBE_QUEUE, create_app
from worker.heartbeat import Heart
from worker.logs import configure_logging
from worker.resources import create_client
from worker.settings import load_settings

if TYPE_CHECKING:
    from worker.settings import Settings


def run_worker(settings: Settings, name: str) -> int:
    """One Celery worker with one child, in this process, until it is told to stop.

    One child, because the engine batches inside: jobs side by side on one device gain less than that
    (docs/adr/0003-process-model.md). Prefork, because only there a kill costs the child alone.
    """
    configure_logging(settings, name)
    setup_logging.connect(lambda **_: None, weak=False)  # keeps Celery's hands off the root logger
    app = create_app(settings)
    Heart(create_client(settings, timeout_s=2.0), name).install()
    worker = app.Worker(hostname=name, pool="prefork", concurrency=1, queues=[TRANSCRIBE_QUEUE], quiet=True)
    worker.start()
    return int(worker.exitcode or 0)


def default_name() -> str:
    return f"cpu-{os.getpid()}@{socket.gethostname()}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default=None, help="worker name, unique among all workers: NAME@HOST")
    arguments = parser.parse_args()
    return run_worker(load_settings(), arguments.name or default_name())


if __name__ == "__main__":
    sys.exit(main())
