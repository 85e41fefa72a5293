"""The whole service as real processes: a recording goes in, one transcript comes out, whatever dies."""

from __future__ import annotations

import json
import re
import signal
import struct
import time
import wave
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from ops.stack import free_port
from tests.support.service import ROOT, SAMPLE, START_S, Service
from worker import streams
from worker.app import TRANSCRIBE_QUEUE
from worker.jobs import JobRecord, JobState, JobStore, new_task_id
from worker.jobs.keys import ENDED_INDEX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Keys that live as long as the service (docs/architecture.md, docs/streams.md); all others need a TTL.
LASTING_KEYS = re.compile(
    r"jobs:(waiting|running|ended|load|stored|audio)|job-measures|workers|cache:id|cache-contents|sweeper-counts|"
    r"gateways|gateway-traffic|q:\{\w+\}:\w+(:\w+)?|_kombu\.binding\w*(\..*)?"
)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def silence(path: Path, seconds: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000 * seconds))
    return path


def long_meeting(path: Path, times: int) -> Path:
    """The sample, repeated: long enough to strike in the middle of it."""
    with wave.open(str(SAMPLE)) as sample, wave.open(str(path), "wb") as file:
        file.setparams(sample.getparams())
        frames = sample.readframes(sample.getnframes())
        for _ in range(times):
            file.writeframes(frames)
    return path


def test_a_recording_becomes_one_transcript_and_leaves_nothing_when_released(service: Service) -> None:
    service.start_all()
    task_id = service.submit()
    status = service.wait_for(task_id, "completed")
    assert status["attempt"] == 1
    assert status["error"] is None

    document = service.download(task_id).json()
    said = words(" ".join(segment["transcript"] for segment in document["segments"]))
    wanted = words((ROOT / "tests/data/meeting.txt").read_text())
    assert len(set(said) & set(wanted)) >= 0.8 * len(set(wanted))
    assert document["engine"] == "whisper"
    assert document["duration_s"] == pytest.approx(25, abs=5)
    assert "# Transcript" in service.download(task_id, "md").text
    assert service.files() == [f"jobs/{task_id}/{JobFiles(service).result(task_id)}"]

    assert service.http.delete(f"/release/{task_id}").status_code == httpx.codes.NO_CONTENT
    assert service.http.get(f"/status/{task_id}").status_code == httpx.codes.GONE
    assert service.files() == []
    with service.redis.client() as client:
        keys = client.keys("*")
        assert not any(task_id in key for key in keys)
        lasting = [key for key in keys if client.ttl(key) == -1]
        assert [key for key in lasting if not LASTING_KEYS.fullmatch(key)] == []
        assert streams.entry_count(client, TRANSCRIBE_QUEUE) == 0


class JobFiles:
    """What the record says of a job's files."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def result(self, task_id: str) -> str:
        with self._service.redis.client() as client:
            return str(client.hget(f"job:{task_id}", "result"))


def test_a_killed_workers_job_ends_in_one_transcript_from_another_worker(
    service: Service, tmp_path: Path
) -> None:
    first = service.start_all()
    recording = long_meeting(tmp_path / "long.wav", 8)
    undisturbed = service.submit(recording)
    service.wait_for(undisturbed, "completed", 120)
    expected = service.download(undisturbed).json()["segments"]

    task_id = service.submit(recording)
    service.wait(
        lambda: ((service.status(task_id)["progress"] or {}).get("fraction") or 0) > 0.05,
        60,
        "the job to be in its middle",
    )
    children = first.children()
    first.kill()
    killed_at = time.monotonic()
    second = service.start_worker("two")
    status = service.wait_for(task_id, "completed", 120)

    assert status["attempt"] == 2
    assert service.download(task_id).json()["segments"] == expected
    result = f"jobs/{task_id}/{JobFiles(service).result(task_id)}"
    service.wait(
        lambda: [name for name in service.files() if task_id in name] == [result],
        10,
        "all but the result to be removed",
    )
    assert '"job_claimed"' in second.log
    assert time.monotonic() - killed_at < 60
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive, "a child outlived its parent"


def test_the_parent_never_loads_the_engine(service: Service) -> None:
    worker = service.start_all()
    service.wait_for(service.submit(), "completed")
    (child,) = worker.children()
    assert any("ctranslate2" in region.path for region in child.memory_maps())
    parent = psutil.Process(worker.pid)
    for library in ("ctranslate2", "onnxruntime", "libav"):
        assert not any(library in region.path for region in parent.memory_maps())


def test_a_waiting_job_that_is_released_never_runs(service: Service) -> None:
    service.start_gateway()
    service.start_sweeper()
    released, kept = service.submit(), service.submit()
    assert service.status(kept)["position"] == 2
    assert service.http.delete(f"/release/{released}").status_code == httpx.codes.NO_CONTENT
    assert service.status(kept)["position"] == 1
    worker = service.start_worker()
    service.wait_for(kept, "completed")
    assert [line for line in worker.log.splitlines() if released in line and "job_claimed" in line] == []
    with service.redis.client() as client:
        assert [key for key in client.keys("*") if released in key] == []


def test_the_more_urgent_job_runs_first(service: Service) -> None:
    service.settings = {"ENGINE": "simulated"}
    service.start_gateway()
    low, normal, high = (service.submit(priority=priority) for priority in ("low", "normal", "high"))
    assert [service.status(task_id)["position"] for task_id in (high, normal, low)] == [1, 2, 3]
    assert service.http.get("/queue").json()["waiting_by_priority"] == {"high": 1, "normal": 1, "low": 1}
    worker = service.start_worker()
    for task_id in (low, normal, high):
        service.wait_for(task_id, "completed")
    claimed = [json.loads(line)["task_id"] for line in worker.log.splitlines() if '"job_claimed"' in line]
    assert claimed == [high, normal, low]


def test_a_job_whose_gateway_died_before_publishing_is_run_by_repair(service: Service) -> None:
    service.start_all()
    task_id = new_task_id()
    folder = service.cache / "jobs" / task_id
    folder.mkdir(parents=True)
    (folder / "input").write_bytes(SAMPLE.read_bytes())
    with service.redis.client() as client:
        record = JobRecord(id=task_id, state=JobState.WAITING, created_at=time.time())
        JobStore(client, group=streams.GROUP, expiry_s=60).accept(record, max_waiting=10)
    service.wait_for(task_id, "completed")


def test_two_sweepers_do_no_more_than_one(service: Service) -> None:
    worker = service.start_all()
    service.start_sweeper()
    ids = [service.submit() for _ in range(3)]
    for task_id in ids:
        assert service.wait_for(task_id, "completed")["attempt"] == 1
    assert worker.log.count('"job_claimed"') == 3


def test_expired_jobs_are_removed_before_a_task_without_any_sweeper(service: Service) -> None:
    service.start_gateway()
    service.start_worker()
    old = service.submit()
    service.wait_for(old, "completed")
    with service.redis.client() as client:
        client.zadd(ENDED_INDEX, {old: time.time() - 1})
    new = service.submit()
    service.wait_for(new, "completed")
    assert service.http.get(f"/status/{old}").status_code == httpx.codes.GONE
    assert [name for name in service.files() if old in name] == []


def test_a_recording_without_speech_is_a_completed_job(service: Service, tmp_path: Path) -> None:
    service.start_all()
    task_id = service.submit(silence(tmp_path / "silence.wav", 5))
    service.wait_for(task_id, "completed")
    assert service.download(task_id).json()["segments"] == []
    assert "No speech was found" in service.download(task_id, "md").text


def test_what_only_looks_like_a_wav_fails_once_with_a_clear_error(service: Service, tmp_path: Path) -> None:
    service.start_all()
    fake = tmp_path / "fake.wav"
    fake.write_bytes(b"RIFF" + struct.pack("<I", 4000) + b"WAVE" + b"this is no sound at all " * 100)
    status = service.wait_for(service.submit(fake), "failed")
    assert status["error"]["code"] == "not_audio"
    assert status["error"]["step"] == "convert"
    assert status["attempt"] == 1


def test_ready_is_red_with_a_reason_until_there_is_a_worker(service: Service) -> None:
    service.start_gateway()
    answer = service.http.get("/health/ready")
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    assert "worker" in answer.text
    worker = service.start_worker()
    service.wait(
        lambda: service.http.get("/health/ready").status_code == httpx.codes.OK, 10, "the service to be ready"
    )
    worker.end()
    service.wait(
        lambda: service.http.get("/health/ready").status_code == httpx.codes.SERVICE_UNAVAILABLE,
        10,
        "readiness to end with the last worker",
    )


def test_celerys_own_commands_see_the_running_job(service: Service, tmp_path: Path) -> None:
    service.start_all()
    task_id = service.submit(long_meeting(tmp_path / "long.wav", 8))
    service.wait_for(task_id, "processing")
    inspect = service.start("inspect", "celery", "-A", "worker", "inspect", "active", "--json", "-t", "5")
    assert inspect.popen.wait(30) == 0
    assert task_id in inspect.log
    service.wait_for(task_id, "completed", 120)


@pytest.fixture
def flower(service: Service) -> Iterator[httpx.Client]:
    port = free_port()
    service.start(
        "flower",
        *("celery", "-A", "worker", "flower", "--address=127.0.0.1", f"--port={port}"),
        "--conf=ops/flowerconfig.py",
        FLOWER_UNAUTHENTICATED_API="true",
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        service.wait(lambda: answers(client), START_S, "Flower to answer")
        yield client


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthcheck").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_flower_shows_worker_task_and_queue_length(service: Service, flower: httpx.Client) -> None:
    service.start_gateway()
    waiting = [service.submit() for _ in range(2)]
    queues = flower.get("/api/queues/length").json()["active_queues"]
    assert {queue["name"]: queue["messages"] for queue in queues}[TRANSCRIBE_QUEUE] == 2

    service.start_worker()
    for task_id in waiting:
        service.wait_for(task_id, "completed")
    service.wait(
        lambda: flower.get(f"/api/task/info/{waiting[0]}").json().get("state") == "SUCCESS",
        20,
        "Flower to show the finished task",
    )
    workers = service.wait(
        lambda: flower.get("/api/workers", params={"refresh": "1"}).json(), 20, "Flower to show a worker"
    )
    assert workers["one@test"]["active_queues"][0]["name"] == TRANSCRIBE_QUEUE


def test_sigterm_lets_the_running_job_finish(service: Service, tmp_path: Path) -> None:
    worker = service.start_all()
    task_id = service.submit(long_meeting(tmp_path / "long.wav", 6))
    service.wait_for(task_id, "processing")
    worker.signal(signal.SIGTERM)
    assert worker.popen.wait(60) == 0
    assert service.status(task_id)["status"] == "completed"
