"""What the gateway adds to an upload: speed, memory, disk, and whether slow clients are in anyone's way.

    python loadtest/bench_gateway.py               2 GiB and small uploads, in 3 and 5 rounds
    python loadtest/bench_gateway.py --gib 0.25 --rounds 1
    python loadtest/bench_gateway.py --keep NAME   also writes loadtest/results/gateway-NAME.md

A real gateway on a real server, against a raw copy from loopback to disk and against a FastAPI handler that
only saves its file (loadtest/bare_servers.py), in alternating rounds on the same disk with the same client.
The copy is fsynced, as the gateway's is. The handler's files are not, and it writes no record: what
durability alone costs is shown by the same handler with fsync.

The last line gives the ratios. Exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # a script, run from anywhere

from loadtest.bare_servers import BLOCK_BYTES, DONE  # noqa: E402  after the path
from ops.stack import free_port  # noqa: E402
from tests.support.service import Process, Service  # noqa: E402
from tests.support.waiting import wait_until  # noqa: E402

GIB, MIB = 1024**3, 1024**2
LEAST_SPEED, LEAST_RATE = 0.5, 0.5
MOST_GROWTH_MIB = 32.0
MOST_WRITTEN = 1.05  # of the recording's bytes
MOST_HEALTH_MS = 500.0
SMALL_BYTES, SMALL_ROUNDS, SMALL_UPLOADS, CONNECTIONS = 64 * 1024, 5, 400, 8
SLOW_CLIENTS, SLOW_PIECE, SLOW_PAUSE_S, HEALTH_S = 200, b"x" * 1024, 0.1, 10.0
BOUNDARY = f"{'-' * 24}5f6b0d1e2a7c49f3"  # as long as curl's: the search for it depends on that
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()


@dataclass(frozen=True)
class Goal:
    """``is_met`` by ``value``, which the report shows with its unit and spread."""

    what: str
    value: float
    shown: str
    goal: str
    is_met: bool


def post_head(size_bytes: int) -> bytes:
    return (
        "POST /transcribe HTTP/1.1\r\nHost: bench\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(HEAD) + size_bytes + len(TAIL)}\r\n\r\n"
    ).encode()


def send(connection: socket.socket, size_bytes: int) -> None:
    block = os.urandom(BLOCK_BYTES)
    for _ in range(size_bytes // BLOCK_BYTES):
        connection.sendall(block)


def copy_s(port: int, size_bytes: int) -> float:
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        send(connection, size_bytes)
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(100) != DONE:
            raise RuntimeError("the copy broke off")
    return time.perf_counter() - started


def upload_s(service: Service, size_bytes: int) -> float:
    """One upload; its job is released afterwards, outside the time."""
    started = time.perf_counter()
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(post_head(size_bytes) + HEAD)
        send(connection, size_bytes)
        connection.sendall(TAIL)
        answer = connection.recv(65536)
        taken_s = time.perf_counter() - started
    if not answer.startswith(b"HTTP/1.1 202"):
        raise RuntimeError(f"refused: {answer[:500]!r}")
    (job,) = service.http.get("/jobs", params={"limit": 1}).json()["jobs"]
    service.http.delete(f"/release/{job['task_id']}")
    return taken_s


class Memory:
    """How far a process's resident memory rises above where it was."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        (self._folder / "clear_refs").write_text("5")  # sets the peak back to what is resident now
        self._before = self._kib("VmRSS")

    def growth_mib(self) -> float:
        return (self._kib("VmHWM") - self._before) / 1024

    def _kib(self, name: str) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def bench_large(service: Service, gateway: Process, folder: Path, size_bytes: int, rounds: int) -> list[Goal]:
    ours, raw, growths, written = [], [], [], []
    with bare("copy", folder) as port:
        for _ in range(rounds):
            raw.append(copy_s(port, size_bytes))
            (folder / "copy").unlink()
            memory, before = Memory(gateway.pid), psutil.Process(gateway.pid).io_counters().write_bytes
            ours.append(upload_s(service, size_bytes))
            growths.append(memory.growth_mib())
            after = psutil.Process(gateway.pid).io_counters().write_bytes
            written.append((after - before) / size_bytes)
    speeds = [size_bytes / MIB / taken_s for taken_s in ours], [size_bytes / MIB / taken_s for taken_s in raw]
    ratio = statistics.median(speeds[0]) / statistics.median(speeds[1])
    shown = f"{ratio:.2f}: {spread(speeds[0])} against {spread(speeds[1])} MiB/s"
    return [
        Goal("upload, of a raw copy's speed", ratio, shown, f"≥ {LEAST_SPEED}", ratio >= LEAST_SPEED),
        Goal(
            "growth of resident memory",
            max(growths),
            f"{max(growths):.1f} MiB at most",
            f"≤ {MOST_GROWTH_MIB:g} MiB",
            max(growths) <= MOST_GROWTH_MIB,
        ),
        Goal(
            "written to disk, of the recording's bytes",
            max(written),
            f"{max(written):.3f} at most",
            f"≤ {MOST_WRITTEN}, ≥ 1",
            1 <= max(written) <= MOST_WRITTEN,
        ),
    ]


async def uploads_s(port: int, count: int) -> float:
    """``count`` small uploads over a few connections that are kept; seconds for all."""
    request = post_head(SMALL_BYTES) + HEAD + os.urandom(SMALL_BYTES) + TAIL
    left = iter(range(count))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 202"):
                raise RuntimeError(f"refused: {head!r}")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return time.perf_counter() - started


def bench_small(service: Service, folder: Path) -> list[Goal]:
    rates: dict[str, list[float]] = {"handler": [], "durable": [], "ours": []}
    with bare("handler", folder) as handler, bare("durable", folder) as durable:
        ports = {"handler": handler, "durable": durable, "ours": service.port}
        for port in ports.values():  # all warm
            asyncio.run(uploads_s(port, CONNECTIONS))
        for _ in range(SMALL_ROUNDS):
            for name, port in ports.items():
                rates[name].append(SMALL_UPLOADS / asyncio.run(uploads_s(port, SMALL_UPLOADS)))
    ours, plain, synced = (statistics.median(rates[name]) for name in ("ours", "handler", "durable"))
    shown = f"{ours / plain:.2f}: {spread(rates['ours'])} against {spread(rates['handler'])} a second"
    beside = f"{ours / synced:.2f}: against {spread(rates['durable'])} a second"
    what = "uploads of 64 KiB, of a bare handler's rate"
    return [
        Goal(what, ours / plain, shown, f"≥ {LEAST_RATE}", ours / plain >= LEAST_RATE),
        Goal("the same, of one with fsync", ours / synced, beside, "", is_met=True),
    ]


async def health_ms(port: int) -> list[float]:
    """Latencies of /health/live while clients send a little now and then."""
    over = asyncio.Event()
    arrived = asyncio.Barrier(SLOW_CLIENTS + 1)

    async def slow_client() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post_head(GIB) + HEAD)
        await arrived.wait()
        while not over.is_set():
            writer.write(SLOW_PIECE)
            await writer.drain()
            await asyncio.sleep(SLOW_PAUSE_S)
        writer.close()

    async def watch() -> list[float]:
        taken = []
        await arrived.wait()
        ends = time.perf_counter() + HEALTH_S
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < ends:
            started = time.perf_counter()
            writer.write(b"GET /health/live HTTP/1.1\r\nHost: bench\r\n\r\n")
            if not (await reader.readuntil(b'{"status":"alive"}')).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("not alive")
            taken.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(0.01)
        writer.close()
        over.set()
        return taken

    taken, *_ = await asyncio.gather(watch(), *(slow_client() for _ in range(SLOW_CLIENTS)))
    return taken


def bench_slow(service: Service) -> list[Goal]:
    cuts = statistics.quantiles(asyncio.run(health_ms(service.port)), n=100)
    shown = f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms"
    what = f"/health/live beside {SLOW_CLIENTS} slow uploads"
    return [Goal(what, cuts[98], shown, f"p99 ≤ {MOST_HEALTH_MS:g} ms", cuts[98] <= MOST_HEALTH_MS)]


class bare:  # noqa: N801  reads as the function that it stands for
    """One of loadtest.bare_servers as a process; its port."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind, self._folder, self._port = kind, folder, free_port()

    def __enter__(self) -> int:
        script = str(ROOT / "loadtest/bare_servers.py")
        argv = [sys.executable, script, self._kind, str(self._port), str(self._folder)]
        self._process = subprocess.Popen(argv)
        wait_until(self._listens, 20, f"the bare {self._kind} to listen")
        return self._port

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _listens(self) -> bool:
        found = psutil.Process(self._process.pid).net_connections("tcp")
        return any(one.status == psutil.CONN_LISTEN for one in found)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def run(gib: float, rounds: int) -> list[Goal]:
    with tempfile.TemporaryDirectory(prefix="bench-gateway-", dir=ROOT / "var") as name:
        folder = Path(name)
        service = Service(folder, {"MAX_WAITING_JOBS": "100000"})
        try:
            gateway = service.start_gateway()
            size_bytes = int(gib * GIB) // BLOCK_BYTES * BLOCK_BYTES
            large = bench_large(service, gateway, folder, size_bytes, rounds)
            return [*large, *bench_small(service, folder), *bench_slow(service)]
        finally:
            service.end()


def met(goal: Goal) -> str:
    return "" if not goal.goal else "yes" if goal.is_met else "NO"


def machine() -> str:
    system = f"{platform.system()} {platform.release()}"
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {system}, commit {commit()}"


def commit() -> str:
    argv = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", default="")
    arguments = parser.parse_args()
    (ROOT / "var").mkdir(exist_ok=True)
    goals = run(arguments.gib, arguments.rounds)
    lines = [
        f"# The gateway: {arguments.gib:g} GiB in {arguments.rounds} rounds, small uploads, slow clients",
        "",
        f"`python {' '.join(sys.argv)}` on {machine()}",
        "",
        "| what | measured: median (spread) | goal | met |",
        "|---|---|---|---|",
        *(f"| {g.what} | {g.shown} | {g.goal} | {met(g)} |" for g in goals),
    ]
    print("\n".join(lines))
    if arguments.keep:
        kept = ROOT / f"loadtest/results/gateway-{arguments.keep}.md"
        kept.write_text("\n".join(lines) + "\n")
    print("; ".join(f"{goal.what}: {goal.value:.2f}" for goal in goals))
    return 0 if all(goal.is_met for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
