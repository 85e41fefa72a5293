"""The CPU stack, built and started for real: a job done, a worker killed, Redis restarted, nothing left.

One stack for all tests, in their order; the last one brings it down.
"""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.compose.stack import ROOT, ComposeStack
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SAMPLE = ROOT / "tests/data/meeting.wav"
SERVICES = ("redis", "gateway", "worker", "sweeper", "flower")
KILL_ALL = """
import os, pathlib, signal
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if int(process.name) not in (1, os.getpid()):
        os.kill(int(process.name), signal.SIGKILL)
"""
COUNT_KEYS = """
from gateway.keys import load_keys
from worker.settings import Settings
print(len(load_keys(Settings())))
"""
PYTHON_SERVICES = ("gateway", "worker", "sweeper", "flower")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    made = ComposeStack(tmp_path_factory.mktemp("compose"))
    made.compose("down", "-v", "--remove-orphans")
    try:
        made.compose("up", "-d", "--build", "--wait", "--wait-timeout", "180")
        yield made
    finally:
        made.http.close()
        made.compose("down", "-v", "--remove-orphans", check=False)


@pytest.fixture(scope="module")
def long_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes of the sample over and over: some 20 s of work on two cores."""
    path = tmp_path_factory.mktemp("long") / "long.wav"
    with wave.open(str(SAMPLE), "rb") as sample, wave.open(str(path), "wb") as file:
        file.setparams(sample.getparams())
        frames = sample.readframes(sample.getnframes())
        for _ in range(round(1200 * sample.getframerate() / sample.getnframes())):
            file.writeframes(frames)
    return path


@pytest.mark.parametrize("file", ["compose.cpu.yaml", "compose.gpu.yaml"])
def test_the_files_are_sound(tmp_path: Path, file: str) -> None:
    ComposeStack(tmp_path, file).compose("config", "-q")


@pytest.mark.parametrize("missing", ["REDIS_PASSWORD", "FLOWER_BASIC_AUTH"])
def test_no_password_has_a_default(tmp_path: Path, missing: str) -> None:
    made = ComposeStack(tmp_path)
    lines = [line for line in made.settings_file.read_text().splitlines() if not line.startswith(missing)]
    made.settings_file.write_text("\n".join(lines))
    assert made.compose("config", "-q", check=False) == ""
    with pytest.raises(AssertionError, match=missing):
        made.compose("config", "-q")


def test_all_services_are_healthy(stack: ComposeStack) -> None:
    assert {one["Service"]: one["Health"] for one in stack.services()} == dict.fromkeys(SERVICES, "healthy")


def test_a_recording_is_transcribed(stack: ComposeStack) -> None:
    task_id = stack.submit(SAMPLE)
    stack.wait_for(task_id, "completed")
    assert "library" in stack.http.get(f"/download/{task_id}?fmt=txt").text


def test_a_job_ends_although_its_worker_is_killed(stack: ComposeStack, long_recording: Path) -> None:
    task_id = stack.submit(long_recording)
    wait_until(lambda: stack.fraction(task_id) > 0.1, 120, "the job to be under way")
    # From inside, by the same user: as a crash, after which the restart policy holds.
    stack.python("worker", KILL_ALL, check=False)
    assert stack.wait_for(task_id, "completed")["attempt"] == 2


def test_a_restart_of_redis_loses_nothing(stack: ComposeStack, long_recording: Path) -> None:
    running, waiting = stack.submit(long_recording), stack.submit(SAMPLE)
    wait_until(lambda: stack.fraction(running) > 0.05, 120, "the job to be under way")
    stack.compose("restart", "redis")
    for task_id in (running, waiting):
        stack.wait_for(task_id, "completed")
    assert "CRITICAL" not in stack.compose("logs", "redis")


def test_flower_shows_workers_tasks_and_queues(stack: ComposeStack) -> None:
    assert stack.flower("/", user="nobody").status_code == httpx.codes.UNAUTHORIZED
    assert len(wait_until(lambda: stack.flower("/api/workers?refresh=1").json(), 60, "Flower's workers")) >= 1
    tasks = wait_until(lambda: stack.flower("/api/tasks").json(), 60, "Flower's tasks")
    assert {"transcribe"} <= {task["name"] for task in tasks.values()}
    assert {task["args"] for task in tasks.values() if task["name"] == "transcribe"} == {"()"}
    wait_until(lambda: "transcribe" in _queue_names(stack), 60, "Flower to know the worker's queue")
    stack.compose("restart", "flower")
    wait_until(lambda: _task_names(stack) >= {"transcribe"}, 60, "Flower to remember its tasks")


def _queue_names(stack: ComposeStack) -> set[str]:
    stack.flower("/api/workers?refresh=1")
    return {queue["name"] for queue in stack.flower("/api/queues/length").json()["active_queues"]}


def _task_names(stack: ComposeStack) -> set[str]:
    try:
        answer = stack.flower("/api/tasks")
    except httpx.TransportError:
        return set()
    return {task["name"] for task in answer.json().values()} if answer.is_success else set()


@pytest.mark.parametrize("service", PYTHON_SERVICES)
def test_services_are_nobody_and_cannot_change_themselves(stack: ComposeStack, service: str) -> None:
    assert stack.python(service, "import os; print(os.getuid())") == "10001"
    assert stack.python(service, "open('/app/x', 'w')", check=False) == ""
    with pytest.raises(AssertionError, match="Read-only file system"):
        stack.python(service, "open('/app/x', 'w')")


def test_the_gateway_reads_the_file_of_api_keys(stack: ComposeStack, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# whose\nalice:{'0' * 64}\n")
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    guarded = ComposeStack(tmp_path, further={"API_KEYS_FILE": str(keys), "ALLOW_ANONYMOUS": "false"})
    for one, expected in ((guarded, "1"), (stack, "0")):
        told = one.compose("run", "--rm", "--no-deps", "-T", "gateway", "python", "-c", COUNT_KEYS)
        assert told.strip() == expected
    guarded.http.close()


def test_redis_lets_the_service_do_its_work_and_no_more(stack: ComposeStack) -> None:
    ask = "redis-cli --no-auth-warning --user service -a $REDIS_PASSWORD"

    def told(command: str) -> str:
        return stack.compose("exec", "-T", "redis", "sh", "-c", command, check=False)

    assert "PONG" in told(f"{ask} ping")
    assert "NOPERM" in told(f"{ask} flushall")
    assert "NOPERM" in told(f"{ask} config get dir")
    assert "NOAUTH" in told("redis-cli ping")


def test_a_backup_is_restored(stack: ComposeStack, tmp_path: Path) -> None:
    """By the very commands of docs/operations.md."""
    task_id = stack.submit(SAMPLE)
    stack.wait_for(task_id, "completed")
    stack.run_documented("Backup", tmp_path)
    stack.compose("down", "-v")
    stack.run_documented("Restore", tmp_path)
    assert stack.status(task_id)["status"] == "completed"
    assert "library" in stack.http.get(f"/download/{task_id}?fmt=txt").text


def test_nothing_is_left(stack: ComposeStack) -> None:
    stack.compose("down", "-v")
    assert stack.left_over() == []
