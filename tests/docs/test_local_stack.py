"""``make run`` and ``make demo``, as the README has them, without make's environment around them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from ops.stack import free_port
from tests.docs.pages import ROOT
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def test_run_keeps_the_service_up_until_it_is_stopped(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "printed"
    settings = {
        "DATA_DIR": str(tmp_path / "data"),
        "CACHE_DIR": str(tmp_path / "cache"),
        "GATEWAY_PORT": str(port),
        "FLOWER_PORT": "0",
        "ENGINE": "simulated",
    }
    with log.open("wb") as printed:
        running = subprocess.Popen(
            [sys.executable, "-m", "ops", "run"],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdout=printed,
            stderr=printed,
        )
    try:
        wait_until(lambda: "Ctrl-C stops it all." in log.read_text(), 60, "the stack to be up")
        url = f"http://127.0.0.1:{port}"
        assert f"API       {url}\n" in log.read_text()
        assert httpx.get(f"{url}/health/ready").status_code == httpx.codes.OK
        assert httpx.get(f"{url}/docs").status_code == httpx.codes.OK
        running.send_signal(signal.SIGINT)
        assert running.wait(60) == 0, log.read_text()
    finally:
        running.kill()
        running.wait(10)
