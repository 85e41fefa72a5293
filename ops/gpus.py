"""``python -m ops gpus``: every worker and its device in a table, like a small nvidia-smi for the service.

On a narrow terminal three lines a worker take the table's place.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.gpu.report import REPORT_EVERY_S, drop_report, read_reports
from worker.gpu.verdict import Colour, Fleet, Judged, judge_all
from worker.patience import AWAY
from worker.resources import create_client

if TYPE_CHECKING:
    import redis
    from rich.console import ConsoleOptions, RenderResult

    from worker.gpu.report import DeviceReport, JobReport, WorkerReport
    from worker.gpu.verdict import Verdict
    from worker.settings import Settings

GIB = 1024**3
STYLES = {Colour.GREEN: "green", Colour.AMBER: "yellow", Colour.RED: "bold red"}
COLUMNS = ("worker", "device", "memory GiB", "use", "°C", "W", "model", "job", "done", "verdict")
RIGHT = {"memory GiB", "use", "°C", "W", "done"}
TABLE_COLUMNS = 120  # on a narrower terminal its cells would be of a few letters each
REDIS_AWAY = Text("Redis does not answer: see REDIS_URL", style=STYLES[Colour.RED])


def show_gpus(settings: Settings, *, once: bool, console: Console | None = None) -> int:
    """Print the table once, or renew it until Ctrl-C. 1 where the verdict is red."""
    console = console or Console()
    client = create_client(settings)
    if not once:
        watch(client, console)
        return 0
    fleet = look(client)
    console.print(Overview(fleet))
    return int(fleet.verdict.colour is Colour.RED)


def forget_worker(settings: Settings, name: str) -> bool:
    """Drop what a worker reported that will not come back; False where there is nothing."""
    return drop_report(create_client(settings), name)


def watch(client: redis.Redis, console: Console) -> None:
    try:
        with Live(Overview(look(client)), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(REPORT_EVERY_S)
                live.update(look_or_tell(client), refresh=True)
    except KeyboardInterrupt:
        return


def look_or_tell(client: redis.Redis) -> Overview | Text:
    try:
        return Overview(look(client))
    except AWAY:
        return REDIS_AWAY


def look(client: redis.Redis) -> Fleet:
    now = time.time()
    return judge_all(read_reports(client, now), now)


@dataclass(frozen=True)
class Overview:
    """The verdict, then the workers, as wide as the terminal is at the moment."""

    fleet: Fleet

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        yield verdict_text(self.fleet.verdict, ": ")
        if options.max_width >= TABLE_COLUMNS:
            yield table_of(self.fleet)
            return
        for one in self.fleet.workers:
            yield from lines_of(one)


def table_of(fleet: Fleet) -> Table:
    table = Table(expand=False)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in RIGHT else "left", no_wrap=name in RIGHT)
    for one in fleet.workers:
        table.add_row(*row(one))
    return table


def row(one: Judged) -> list[str | Text]:
    report = one.report
    return [
        report.worker,
        *device_cells(report.device),
        model_cell(report),
        job_cell(report.job),
        done_cell(report),
        verdict_text(one.verdict),
    ]


def lines_of(one: Judged) -> list[Text]:
    report = one.report
    work = [model_cell(report), job_cell(report.job), f"{done_cell(report)} done"]
    return [
        Text.assemble((f"{report.worker} ", "bold"), verdict_text(one.verdict)),
        Text(f"  {device_line(report.device)}"),
        Text(f"  {', '.join(part for part in work if part)}"),
    ]


def device_line(device: DeviceReport | None) -> str:
    if device is None:
        return "CPU"
    label, _, use, heat, power = device_cells(device)
    return f"{label}, {memory_cell(device, ' GiB')}, {use}, {heat} °C, {power} W"


def verdict_text(verdict: Verdict, between: str = " ") -> Text:
    return Text(f"{verdict.colour}{between}{verdict.reason}", style=STYLES[verdict.colour])


def model_cell(report: WorkerReport) -> str:
    return f"{report.engine}{'' if report.model_loaded else ' (not loaded)'}" if report.engine else ""


def done_cell(report: WorkerReport) -> str:
    failed = f" ({report.attempts_failed} failed)" if report.attempts_failed else ""
    return f"{report.jobs_done}{failed}"


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


def memory_cell(device: DeviceReport, unit: str = "") -> str:
    if device.used_bytes is None or device.total_bytes is None:
        return "?"
    ours = f" ({device.ours_bytes / GIB:.1f} ours)" if device.ours_bytes else ""
    return f"{device.used_bytes / GIB:.1f} of {device.total_bytes / GIB:.1f}{unit}{ours}"


def job_cell(job: JobReport | None) -> str:
    if job is None:
        return ""
    speed = f" {job.speed_x:.1f}x" if job.speed_x else ""
    return f"{job.task_id[:8]} {job.step} {job.fraction:.0%}{speed}"


def _figure(value: float | None, unit: str = "") -> str:
    return "?" if value is None else f"{value}{unit}"
