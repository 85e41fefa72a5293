"""What sweepers do and see, counted for the exporter: a sweeper's own repairs, on a real server and disk."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from ops import keeping
from ops.maintenance import Keeper
from ops.metrics import Collector
from worker import streams
from worker.app import create_app
from worker.cache import survey
from worker.jobs import Fence, JobRecord, JobState, new_task_id
from worker.jobs.keys import ENDED_INDEX
from worker.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    import redis

    from tests.support.redis_server import RedisServer


@pytest.fixture
def keeper(client: redis.Redis, redis_server: RedisServer, tmp_path: Path) -> Keeper:
    settings = Settings(  # type: ignore[call-arg]
        _env_file=None, redis_url=redis_server.url, cache_dir=tmp_path, orphan_grace_s=1
    )
    return Keeper.create(create_app(settings), settings)


def figures(keeper: Keeper) -> dict[str, float]:
    """The exporter's samples that have at most one label, whose value joins the name."""
    samples = [one for family in Collector(keeper.client, keeper.store).collect() for one in family.samples]
    return {
        " ".join([one.name.removeprefix("transcription_"), *one.labels.values()]): one.value
        for one in samples
    }


def ended(keeper: Keeper, size_bytes: int = 100) -> str:
    task_id = new_task_id()
    record = JobRecord(id=task_id, state=JobState.WAITING, created_at=time.time())
    assert keeper.store.accept(record, max_waiting=10)
    folder = keeper.cache.folder(task_id)
    folder.create()
    folder.input.write_bytes(bytes(size_bytes))
    keeper.store.fail(task_id, code="cancelled", message="", step="", now=time.time(), fence=Fence.LOST)
    return task_id


def test_expired_jobs_are_counted_and_their_lag_is_told(keeper: Keeper) -> None:
    first, second = ended(keeper), ended(keeper)
    keeper.repair()
    found = figures(keeper)
    assert (found["jobs_expired_total"], found["expiry_lag_seconds"]) == (0, 0)
    assert (found["cache_files"], found["cache_bytes"]) == (2, 200)
    keeper.client.zadd(ENDED_INDEX, {first: time.time() - 500, second: time.time() + 500})
    assert figures(keeper)["expiry_lag_seconds"] == pytest.approx(500, abs=5)
    keeper.repair()
    found = figures(keeper)
    assert (found["jobs_expired_total"], found["expiry_lag_seconds"]) == (1, 0)
    assert found["sweeper_events_total repair"] == 2
    assert found["last_repair_timestamp_seconds"] == pytest.approx(time.time(), abs=5)


def test_a_release_is_no_expiry(keeper: Keeper) -> None:
    assert keeper.store.release(ended(keeper))
    assert figures(keeper)["jobs_expired_total"] == 0


def test_folders_that_go_and_folders_that_stay(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    goes, stays = keeper.cache.folder(new_task_id()), keeper.cache.folder(new_task_id())
    for folder in (goes, stays):
        folder.create()
        folder.input.write_bytes(b"x")
        for path in (folder.input, folder.path):
            os.utime(path, (0, 0))
    # Tests may run as root, whom no permission stops: the disk's refusal is played.
    kept = os.unlink

    def refuse(path: str, **options: int) -> None:
        if "dir_fd" in options and os.fstat(options["dir_fd"]).st_ino == stays.path.stat().st_ino:
            raise PermissionError(path)
        kept(path, **options)

    monkeypatch.setattr(os, "unlink", refuse)
    keeper.repair()
    found = figures(keeper)
    assert (goes.path.exists(), stays.path.exists()) == (False, True)
    assert found["sweeper_events_total orphan_removed"] == 1
    assert found["cache_stuck_folders"] == 1
    monkeypatch.undo()
    keeper.repair()
    found = figures(keeper)
    assert found["cache_stuck_folders"] == 0
    assert found["sweeper_events_total orphan_removed"] == 2


def test_the_cache_is_looked_at_no_oftener_than_it_bears(keeper: Keeper) -> None:
    ended(keeper)
    now = time.time()
    assert keeping.look_at_cache(keeper.client, keeper.cache, now)
    keeper.client.hset(keeping.CONTENTS_KEY, "took_s", "3")
    assert not keeping.look_at_cache(keeper.client, keeper.cache, now + 59)
    assert keeping.look_at_cache(keeper.client, keeper.cache, now + 61)


def test_a_survey_sees_every_file_at_every_depth(keeper: Keeper) -> None:
    assert survey(keeper.cache).files == 0
    task_id = ended(keeper, 1000)
    checkpoints = keeper.cache.folder(task_id).checkpoints
    checkpoints.mkdir()
    (checkpoints / "1.json").write_bytes(bytes(24))
    found = survey(keeper.cache)
    assert (found.files, found.size_bytes) == (2, 1024)


def test_leases_lost_are_counted_whoever_sweeps(keeper: Keeper) -> None:
    queue, options = "transcribe", streams.Options(lease_s=2, max_attempts=2)
    keys, client = streams.QueueKeys(queue), keeper.client
    client.xadd(keys.level("normal"), {"m": '{"headers": {"id": "a"}}', "n": "0"})
    for outcome, stream in (("requeued", keys.level("normal")), ("dead", keys.front)):
        client.xgroup_create(stream, streams.GROUP, "0", mkstream=True)
        client.xreadgroup(streams.GROUP, "w", {stream: ">"}, count=1)
        entry_id = client.xpending_range(stream, streams.GROUP, "-", "+", 1)[0]["message_id"]
        client.xclaim(stream, streams.GROUP, "w", 0, [entry_id], idle=60_000, justid=True)
        seconds, microseconds = client.time()
        now_ms = seconds * 1000 + microseconds // 1000
        client.hset(keys.guard, mapping={"last": now_ms, "since": now_ms - 60_000})
        assert [one.outcome for one in streams.sweep(client, [queue], options)] == [outcome]
    found = figures(keeper)
    assert found["leases_lost_total transcribe requeued"] == 1
    assert found["leases_lost_total transcribe dead"] == 1
    assert found["queue_entries transcribe dead"] == 1
    assert found["queue_entries transcribe waiting"] == 0


def test_without_a_sweeper_what_it_saw_is_not_told(keeper: Keeper) -> None:
    assert "dead_letters" not in figures(keeper)
    keeper.sweep()
    found = figures(keeper)
    assert found["dead_letters"] == 0
    assert 0 < found["cache_free_bytes"] <= found["cache_disk_bytes"]
    assert found["sweeper_events_total sweep"] == 1
