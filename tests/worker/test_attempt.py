"""One attempt, step by step, with what others do to its job in between."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import Ignore, Reject, Retry

from tests.support.redis_server import RedisServer
from worker.attempt import Attempt
from worker.cache import Cache
from worker.engines.protocol import Transcript
from worker.errors import Interrupted, JobError, NotAudio, SourceUnavailable
from worker.jobs import Fence, JobRecord, JobState, JobStore, new_task_id
from worker.measures import MEASURES_KEY, count_job
from worker.outcomes import as_job_error, retry_delay_s
from worker.progress import Abandoned
from worker.settings import Settings
from worker.tasks import attempt_job
from worker.tracing import OFF

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import redis

GROUP = "celery"
STREAM = "q:{transcribe}:main"
TRANSCRIPT = Transcript("e", "m", "en", 1.0)


class FakeTools:
    """What an attempt works with; remembers what was said to Celery."""

    def __init__(self, client: redis.Redis, folder: Path) -> None:
        self.store = JobStore(client, group=GROUP, expiry_s=60)
        self.cache = Cache(folder)
        self.settings = Settings(max_attempts=3)
        self.tracing = OFF
        self.said: list[str] = []

    def forget(self, _task_id: str) -> None:
        self.said.append("forgotten")

    def count_job(self, _record: JobRecord, *, speed_tells: bool) -> None:
        pass

    def note_error(self, _error: JobError) -> None:
        pass

    def mark_cancelled(self, _task_id: str) -> None:
        self.said.append("cancelled")


class FakeTask:
    """Celery's side of an attempt."""

    def __init__(self, task_id: str, lease: str, *, publishes: bool = True) -> None:
        self.request = SimpleNamespace(id=task_id, lease_id=lease, attempt=1, retries=0, hostname="w@h")
        self.publishes = publishes

    def update_state(self, **_: Any) -> None:
        pass

    def retry(self, *, exc: Exception, countdown: float) -> Retry:
        if not self.publishes:
            raise Reject(exc, requeue=False)  # as Celery does where its retry can't be published
        return Retry(exc=exc, when=countdown)


@pytest.fixture
def tools(client: redis.Redis, tmp_path: Path) -> FakeTools:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    return FakeTools(client, tmp_path)


def job(tools: FakeTools, **fields: Any) -> str:
    task_id = new_task_id()
    tools.cache.folder(task_id).create()
    tools.cache.folder(task_id).input.write_bytes(b"RIFF")
    record = JobRecord(id=task_id, state=JobState.WAITING, created_at=time.time(), **fields)
    tools.store.accept(record, max_waiting=10)
    return task_id


def delivered(client: redis.Redis) -> str:
    entry_id = client.xadd(STREAM, {"m": "{}"})
    client.xreadgroup(GROUP, "w", {STREAM: ">"})
    return f"{entry_id}@{STREAM}"


def attempt_at(tools: FakeTools, client: redis.Redis, task_id: str, **task: Any) -> tuple[FakeTask, Attempt]:
    fake = FakeTask(task_id, delivered(client), **task)
    return fake, Attempt(tools, fake)  # type: ignore[arg-type]


def state(tools: FakeTools, task_id: str) -> tuple[str, str]:
    record = tools.store.get(task_id)
    assert record is not None
    return record.state, record.error_code


def cancel(tools: FakeTools, task_id: str) -> None:
    tools.store.fail(task_id, code="cancelled", message="", step="", now=time.time(), fence=Fence.NONE)


def fails_with(attempt: Attempt, error: Exception) -> None:
    def run() -> Transcript:
        raise error

    attempt.run = run  # type: ignore[method-assign]


def test_a_result_that_was_cancelled_before_its_commit_does_not_count(
    tools: FakeTools, client: redis.Redis
) -> None:
    task_id = job(tools)
    _, attempt = attempt_at(tools, client, task_id)
    attempt.load()
    attempt.settle(TRANSCRIPT)
    cancel(tools, task_id)
    with pytest.raises(Abandoned):
        attempt.record()
    assert state(tools, task_id) == ("failed", "cancelled")
    assert [path.name for path in attempt.folder.path.iterdir()] == ["input"]


def test_a_commit_whose_answer_got_lost_counts_when_it_is_repeated(
    tools: FakeTools, client: redis.Redis
) -> None:
    task_id = job(tools)
    _, attempt = attempt_at(tools, client, task_id)
    attempt.load()
    attempt.settle(TRANSCRIPT)
    first = attempt.record()
    assert attempt.record() == first
    assert [path.name for path in attempt.folder.path.iterdir()] == [first["result"]]


class CountsOnBadDisk(FakeTools):
    """Its server can't write to its disk while an ended job is counted."""

    def __init__(self, server: RedisServer, client: redis.Redis, folder: Path) -> None:
        super().__init__(client, folder)
        self.server = server
        self.client = client

    def count_job(self, record: JobRecord, *, speed_tells: bool) -> None:
        with self.server.unable_to_save():
            count_job(self.client, record, "whisper", speed_tells=speed_tells)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.stop()


@pytest.mark.parametrize("ends", ["completed", "failed"])
def test_an_end_stands_though_the_server_refuses_to_count_it(
    own_server: RedisServer, tmp_path: Path, ends: str
) -> None:
    with own_server.client() as client:
        client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        tools = CountsOnBadDisk(own_server, client, tmp_path / "cache")
        task_id = job(tools)
        _, attempt = attempt_at(tools, client, task_id)
        attempt.load()
        if ends == "completed":
            attempt.settle(TRANSCRIPT)
            assert attempt.record()["task_id"] == task_id
        else:
            attempt.fail(NotAudio("no"))
        assert state(tools, task_id)[0] == ends
        assert client.hgetall(MEASURES_KEY) == {}


def test_a_final_error_fails_the_job_once_and_keeps_its_input(tools: FakeTools, client: redis.Redis) -> None:
    task_id = job(tools)
    task, attempt = attempt_at(tools, client, task_id)
    fails_with(attempt, NotAudio("no"))
    with pytest.raises(NotAudio):
        attempt_job(task, attempt, max_attempts=3)
    assert state(tools, task_id) == ("failed", "not_audio")
    assert attempt.folder.input.exists()


def test_a_retryable_error_waits_for_another_attempt(tools: FakeTools, client: redis.Redis) -> None:
    task_id = job(tools)
    task, attempt = attempt_at(tools, client, task_id)
    fails_with(attempt, Interrupted("disk"))
    with pytest.raises(Retry) as retried:
        attempt_job(task, attempt, max_attempts=3)
    assert state(tools, task_id) == ("waiting", "")
    assert 3 < retried.value.when < 7


@pytest.mark.parametrize(("asked_s", "waited_s"), [(60, 60), (10_000, 300)])
def test_the_next_attempt_comes_when_a_busy_server_asked_for_it(
    tools: FakeTools, client: redis.Redis, asked_s: int, waited_s: int
) -> None:
    task, attempt = attempt_at(tools, client, job(tools))
    fails_with(attempt, SourceUnavailable("busy", retry_after_s=asked_s))
    with pytest.raises(Retry) as retried:
        attempt_job(task, attempt, max_attempts=3)
    assert retried.value.when == waited_s


def test_the_last_attempts_retryable_error_is_final(tools: FakeTools, client: redis.Redis) -> None:
    task_id = job(tools)
    task, attempt = attempt_at(tools, client, task_id)
    fails_with(attempt, Interrupted("disk"))
    with pytest.raises(Interrupted):
        attempt_job(task, attempt, max_attempts=1)
    assert state(tools, task_id) == ("failed", "interrupted")


def test_a_retry_that_cannot_be_published_gives_the_entry_back(tools: FakeTools, client: redis.Redis) -> None:
    task_id = job(tools)
    task, attempt = attempt_at(tools, client, task_id, publishes=False)
    fails_with(attempt, Interrupted("disk"))
    with pytest.raises(Reject) as rejected:
        attempt_job(task, attempt, max_attempts=3)
    assert rejected.value.requeue


def test_a_released_job_ends_without_a_word_and_without_a_trace(
    tools: FakeTools, client: redis.Redis
) -> None:
    task_id = job(tools)
    tools.store.release(task_id)
    task, attempt = attempt_at(tools, client, task_id)
    with pytest.raises(Ignore):
        attempt_job(task, attempt, max_attempts=3)
    assert tools.said == ["forgotten"]


def test_a_cancelled_job_that_is_delivered_stays_cancelled_for_celery_too(
    tools: FakeTools, client: redis.Redis
) -> None:
    task_id = job(tools)
    cancel(tools, task_id)
    task, attempt = attempt_at(tools, client, task_id)
    with pytest.raises(Ignore):
        attempt_job(task, attempt, max_attempts=3)
    assert tools.said == ["cancelled"]


def test_a_completed_job_that_is_delivered_again_repeats_its_answer_and_is_tidied_up(
    tools: FakeTools, client: redis.Redis
) -> None:
    task_id = job(tools)
    _, first = attempt_at(tools, client, task_id)
    first.load()
    first.settle(TRANSCRIPT)
    first.tidy_up = lambda _keep: None  # type: ignore[method-assign]  # it died before
    answer = first.record()
    task, second = attempt_at(tools, client, task_id)
    assert attempt_job(task, second, max_attempts=3) == answer
    assert [path.name for path in second.folder.path.iterdir()] == [answer["result"]]


def acknowledge(client: redis.Redis, attempt: Attempt) -> None:
    client.xack(STREAM, GROUP, attempt.lease.partition("@")[0])


def test_a_late_attempt_leaves_the_result_alone_that_another_has_kept(
    tools: FakeTools, client: redis.Redis
) -> None:
    """It had settled and kept it; the next attempt found no bucket, so the result is the job's."""
    task_id = job(tools, s3_path="x")
    _, late = attempt_at(tools, client, task_id)
    late.load()
    late.settle(TRANSCRIPT)
    late.keep()
    acknowledge(client, late)
    task, second = attempt_at(tools, client, task_id)
    answer = attempt_job(task, second, max_attempts=3)
    assert answer["result"] == late.folder.result(late.lease).name
    for step in (late.keep, late.record):
        with pytest.raises(Abandoned):
            step()
    assert [path.name for path in late.folder.path.iterdir()] == [answer["result"]]


def test_an_attempt_that_lost_the_job_before_it_could_keep_its_result_removes_it(
    tools: FakeTools, client: redis.Redis
) -> None:
    task_id = job(tools, s3_path="x")
    _, attempt = attempt_at(tools, client, task_id)
    attempt.load()
    attempt.settle(TRANSCRIPT)
    acknowledge(client, attempt)
    with pytest.raises(Abandoned):
        attempt.deliver()
    assert [path.name for path in attempt.folder.path.iterdir()] == ["input"]


def test_a_kept_result_that_is_no_longer_there_is_made_anew(tools: FakeTools, client: redis.Redis) -> None:
    task_id = job(tools, s3_path="x")
    _, first = attempt_at(tools, client, task_id)
    first.load()
    first.settle(TRANSCRIPT)
    first.keep()
    first.folder.result(first.lease).unlink()
    acknowledge(client, first)
    _, second = attempt_at(tools, client, task_id)
    second.load()
    assert second.fields == {}


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (OSError(28, "No space left on device"), "interrupted"),
        (MemoryError(), "interrupted"),
        (OSError(13, "Permission denied"), "engine_failed"),
        (ValueError("secret text"), "engine_failed"),
        (NotAudio("no"), "not_audio"),
    ],
)
def test_any_exception_becomes_one_clear_error(exc: Exception, code: str) -> None:
    error = as_job_error(exc, "convert")
    assert error.code == code
    assert "secret" not in error.message


def test_retries_back_off_with_jitter_up_to_a_limit() -> None:
    delays = [[retry_delay_s(number) for _ in range(50)] for number in (1, 2, 30)]
    assert all(3.75 <= delay <= 6.25 for delay in delays[0])
    assert all(7.5 <= delay <= 12.5 for delay in delays[1])
    assert max(delays[2]) <= 375
    assert len(set(delays[0])) > 1
