"""``python -m worker``: take jobs from the stream and finish them, until SIGTERM.

On a machine with GPUs that is a pool, one worker for each; with --name, or without a GPU, one worker.
``check`` only loads the engine and says whether it could; ``prefetch`` brings its models here; ``doctor``
looks at all that a worker needs; ``health`` says whether this machine's workers can work.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from typing import TYPE_CHECKING

from worker.logs import configure_logging, get_logger
from worker.processes import DEVICE_FAULT_EXIT, REFUSED_EXIT
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.gpu.readings import Reading
    from worker.running import Post
    from worker.settings import Settings

NO_GPU = "no GPU was found"
FIRST_LOOK_S = 20.0  # a driver that nobody uses yet wakes each device first


def main() -> int:
    arguments = parse_arguments()
    settings = load_settings()
    if arguments.command == "check":
        from worker.checking import check_engine  # noqa: PLC0415  each command loads only what it needs

        return check_engine(settings)
    if arguments.command == "prefetch":
        from worker.checking import prefetch  # noqa: PLC0415

        return prefetch(settings)
    if arguments.command == "health":
        from worker.checking import health  # noqa: PLC0415

        return health(settings, socket.gethostname())
    if arguments.command == "doctor":
        from worker.doctor import run_doctor  # noqa: PLC0415

        return run_doctor(settings)
    return run(settings, arguments.name, arguments.gpu)


def run(settings: Settings, name: str | None, gpu: str | None) -> int:
    """A pool, or one worker: on the device ``gpu``, on the first that there is, or on the CPU."""
    from worker.gpu.nvml import DriverFault  # noqa: PLC0415

    host = socket.gethostname()
    if gpu is not None:
        return run_on_gpu(settings, name or f"gpu-{os.getpid()}@{host}", gpu)
    try:
        readings = look_for_gpus(settings)
    except DriverFault as exc:
        if name is None:
            return run_pool(settings, host)
        sys.stderr.write(f"error: {exc.fault.text}\n")
        return DEVICE_FAULT_EXIT
    if readings:
        first = readings[0].device.uuid
        return run_pool(settings, host) if name is None else run_on_gpu(settings, name, first)
    return run_on_cpu(settings, name or f"cpu-{os.getpid()}@{host}")


def run_on_gpu(settings: Settings, name: str, uuid: str) -> int:
    from worker.running import Post  # noqa: PLC0415

    os.environ["CUDA_VISIBLE_DEVICES"] = uuid  # before the child loads CUDA
    # Not "auto": an engine that can't reach its GPU must not go on in silence on the CPU.
    return run_one(settings.model_copy(update={"device": "cuda"}), Post(name, uuid))


def run_on_cpu(settings: Settings, name: str) -> int:
    from worker.running import Post  # noqa: PLC0415

    if settings.device == "cuda":
        sys.stderr.write(f"error: {NO_GPU}, and DEVICE=cuda wants one: see docs/gpu.md, or set DEVICE=auto\n")
        return REFUSED_EXIT
    degraded = f"{NO_GPU}: it computes on the CPU (DEVICE=auto)" if settings.device == "auto" else ""
    return run_one(settings, Post(name, degraded=degraded))


def look_for_gpus(settings: Settings) -> Sequence[Reading]:
    """Raises DriverFault."""
    from worker.gpu.nvml import DriverFault, NoDriver  # noqa: PLC0415
    from worker.gpu.pool import look_around  # noqa: PLC0415
    from worker.gpu.question import Question, Unanswered  # noqa: PLC0415
    from worker.gpu.readings import SILENCE  # noqa: PLC0415

    if settings.device == "cpu":
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        return Question(lambda: look_around(chosen), FIRST_LOOK_S).answer().readings
    except Unanswered as exc:
        raise DriverFault(SILENCE) from exc
    except NoDriver:
        return []


def run_pool(settings: Settings, host: str) -> int:
    from worker.gpu.pool import Pool  # noqa: PLC0415
    from worker.resources import create_client  # noqa: PLC0415

    configure_logging(settings, f"pool@{host}")
    client = create_client(settings, timeout_s=2.0)
    return Pool(host, settings.jobs_per_gpu, os.environ.get("CUDA_VISIBLE_DEVICES"), client).run()


def run_one(settings: Settings, post: Post) -> int:
    from worker.cache.identity import WrongCache  # noqa: PLC0415
    from worker.running import run_worker  # noqa: PLC0415

    configure_logging(settings, post.name)
    if post.degraded:
        get_logger(__name__).warning("no_gpu", worker=post.name, consequence=post.degraded)
    try:
        return run_worker(settings, post)
    except WrongCache as exc:
        sys.stderr.write(f"error: {exc.message}\n")
        return REFUSED_EXIT


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default=None, help="one worker of this name, unique among all: NAME@HOST")
    parser.add_argument("--gpu", default=None, help="the UUID of its device, as the pool starts it")
    commands = ["run", "check", "prefetch", "doctor", "health"]
    parser.add_argument("command", nargs="?", choices=commands, default="run")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
