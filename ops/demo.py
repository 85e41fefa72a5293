"""``make demo``: the whole service, one recording through its HTTP API, the transcript on the terminal."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from gateway.client import Client, ClientError
from gateway.client.display import describe, fraction
from ops.stack import Stack, StackError

if TYPE_CHECKING:
    from gateway.client import JobStatus
    from worker.settings import Settings

JOB_TIMEOUT_S = 600.0


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
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    try:
        with Client(api_url, api_key or None) as client, Progress(*columns, console=console) as bar:
            job = client.transcribe(recording)
            console.print(f"POST /transcribe {recording.name} -> task {job.task_id}")
            row = bar.add_task("", total=1.0)

            def show(status: JobStatus) -> None:
                bar.update(row, description=describe(status), completed=fraction(status))

            status = client.wait(job.task_id, JOB_TIMEOUT_S, show)
            if status.error is not None:
                raise StackError(f"the job failed: {status.error.message}")
            return client.download(job.task_id)
    except ClientError as exc:
        raise StackError(str(exc)) from exc
