"""``python -m ops gpus``: every worker and its device in a table, like a small nvidia-smi for the service."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.gpu.report import REPORT_EVERY_S, drop_report, read_reports
from worker.gpu.verdict import Colour, Fleet, Judged, judge_all
from worker.resources import create_client

if TYPE_CHECKING:
    import redis

    from worker.gpu.report import DeviceReport, JobReport
    from worker.settings import Settings

GIB = 1024**3
STYLES = {Colour.GREEN: "green", Colour.AMBER: "yellow", Colour.RED: "bold red"}
COLUMNS = ("worker", "device", "memory GiB", "use", "°C", "W", "model", "job", "done", "verdict")
RIGHT = {"memory GiB", "use", "°C", "W", "done"}


def show_gpus(settings: Settings, *, once: bool, console: Console | None = None) -> int:
    """Print the table once, or renew it until Ctrl-C. 1 where the verdict is red."""
    console = console or Console()
    client = create_client(settings)
    if not once:
        watch(client, console)
        return 0
    fleet = look(client)
    console.print(render(fleet))
    return int(fleet.verdict.colour is Colour.RED)


def forget_worker(settings: Settings, name: str) -> bool:
    """Drop what a worker reported that will not come back; False where there is nothing."""
    return drop_report(create_client(settings), name)


def watch(client: redis.Redis, console: Console) -> None:
    try:
        with Live(render(look(client)), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(REPORT_EVERY_S)
                live.update(render(look(client)), refresh=True)
    except KeyboardInterrupt:
        return


def look(client: redis.Redis) -> Fleet:
    now = time.time()
    return judge_all(read_reports(client, now), now)


def render(fleet: Fleet) -> Group:
    table = Table(expand=False)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=name in RIGHT)
    for one in fleet.workers:
        table.add_row(*row(one))
    verdict = fleet.verdict
    return Group(table, Text(f"{verdict.colour}: {verdict.reason}", style=STYLES[verdict.colour]))


def row(one: Judged) -> list[str | Text]:
    report, verdict = one.report, one.verdict
    return [
        report.worker,
        *device_cells(report.device),
        f"{report.engine}{'' if report.model_loaded else ' (not loaded)'}" if report.engine else "",
        job_cell(report.job),
        f"{report.jobs_done}{f' ({report.attempts_failed} failed)' if report.attempts_failed else ''}",
        Text(f"{verdict.colour} {verdict.reason}", style=STYLES[verdict.colour]),
    ]


def device_cells(device: DeviceReport | None) -> list[str]:
    if device is None:
        return ["CPU", "", "", "", ""]
    return [
        f"{device.label} {device.name}",
        memory_cell(device),
        _figure(device.utilisation_percent, " %"),
        _figure(device.temperature_c),
        _figure(device.power_w and round(device.power_w)),
    ]


def memory_cell(device: DeviceReport) -> str:
    if device.used_bytes is None or device.total_bytes is None:
        return "?"
    ours = f" ({device.ours_bytes / GIB:.1f} ours)" if device.ours_bytes else ""
    return f"{device.used_bytes / GIB:.1f} of {device.total_bytes / GIB:.1f}{ours}"


def job_cell(job: JobReport | None) -> str:
    if job is None:
        return ""
    speed = f" {job.speed_x:.1f}x" if job.speed_x else ""
    return f"{job.task_id[:8]} {job.step} {job.fraction:.0%}{speed}"


def _figure(value: float | None, unit: str = "") -> str:
    return "?" if value is None else f"{value}{unit}"
