"""``make demo``: the whole service, one recording through its HTTP API, the transcript on the terminal."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ops.stack import Stack, StackError

if TYPE_CHECKING:
    from worker.settings import Settings

POLL_S = 0.2
JOB_TIMEOUT_S = 600.0
ENDED = ("completed", "failed")


def run_demo(settings: Settings, recording: Path) -> int:
    """Start everything in a temporary folder, transcribe ``recording``, stop everything."""
    if not recording.is_file():
        raise StackError(f"no such recording: {recording}")
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="transcription-demo-") as name:
        folder = Path(name)
        private = {
            "data_dir": folder,
            "cache_dir": folder / "cache",
            "gateway_host": "127.0.0.1",
            "gateway_port": 0,
            "flower_port": 0,
        }
        stack = Stack(settings.model_copy(update=private), console.print, private=True)
        try:
            with console.status("starting the service (redis, gateway, worker, sweeper, flower)"):
                stack.start()
            console.print(f"API {stack.api_url}  docs {stack.api_url}/docs  Flower {stack.flower_url}")
            markdown = transcribe(stack.api_url, recording, console, stack.api_key)
        finally:
            with console.status("stopping the service"):
                stack.stop()
    console.print(markdown, markup=False)
    return 0


def transcribe(api_url: str, recording: Path, console: Console, api_key: str = "") -> str:
    """Upload, follow, download: what any client does."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    with httpx.Client(base_url=api_url, timeout=60, headers=headers) as client:
        with recording.open("rb") as file:
            answer = client.post("/transcribe", files={"file": (recording.name, file, "audio/wav")})
        job = accepted(answer).json()
        console.print(f"POST /transcribe {recording.name} -> {answer.status_code}, task {job['task_id']}")
        status = follow(client, job["links"]["status"], console)
        if status["status"] != "completed":
            raise StackError(f"the job failed: {status['error']['message']}")
        transcript = client.get(job["links"]["download"], params={"fmt": "md"})
        return accepted(transcript).text


def accepted(answer: httpx.Response) -> httpx.Response:
    """The answer, unless it is a problem."""
    if answer.is_error:
        raise StackError(f"the service refused: {answer.json().get('detail', answer.text)}")
    return answer


def follow(client: httpx.Client, status_url: str, console: Console) -> dict[str, Any]:
    """Poll /status until the job has ended, with a progress bar."""
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    deadline = time.monotonic() + JOB_TIMEOUT_S
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("pending", total=1.0)
        while time.monotonic() < deadline:
            answer = client.get(status_url)
            status: dict[str, Any] = accepted(answer).json()
            bar.update(task, description=describe(status), completed=fraction(status))
            if status["status"] in ENDED:
                return status
            time.sleep(POLL_S)
    raise StackError(f"the job did not end within {JOB_TIMEOUT_S:.0f} s")


def describe(status: dict[str, Any]) -> str:
    step = (status.get("progress") or {}).get("step")
    return (
        f"{status['status']}: {step}" if step and status["status"] == "processing" else str(status["status"])
    )


def fraction(status: dict[str, Any]) -> float:
    if status["status"] == "completed":
        return 1.0
    return float((status.get("progress") or {}).get("fraction") or 0.0)
