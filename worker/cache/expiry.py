"""What leaves the cache, and when. Safe to run in many processes at once, and at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cache.folder import is_task_id
from worker.jobs.states import JobState
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.cache.folder import Cache, JobFolder
    from worker.jobs import JobStore

log = get_logger(__name__)


def remove_expired(cache: Cache, store: JobStore, now: float, forget: Callable[[str], None]) -> list[str]:
    """Remove the jobs that ended CACHE_EXPIRY ago: record first, then result state, then files.

    A crash in between leaves a folder without a record, which ``remove_orphans`` takes.

    Args:
        forget: Drops Celery's result of a task id.
    """
    removed = [task_id for task_id in store.expired_ids(now) if store.expire(task_id, now)]
    for task_id in removed:
        forget(task_id)
        cache.folder(task_id).remove()
        log.info("job_expired", task_id=task_id)
    return removed


def remove_orphans(cache: Cache, store: JobStore, grace_s: float) -> list[str]:
    """Remove folders that no record knows and nobody has written to for ``grace_s``."""
    strangers = _without_record(store, (name for name, _ in cache.folders() if is_task_id(name)))
    old = [task_id for task_id in strangers if _is_old(cache.folder(task_id), grace_s)]
    # Asked again: a folder whose job was accepted while its age was read is kept.
    orphans = _without_record(store, old)
    for task_id in orphans:
        removed = cache.folder(task_id).remove()
        log.warning("orphan_folder_removed" if removed else "orphan_folder_stays", task_id=task_id)
    return orphans


def remove_strays(cache: Cache, store: JobStore) -> list[str]:
    """Remove from completed jobs' folders what their record does not name.

    A late attempt may settle its result after the winner has tidied up, and be killed before it could ask
    whether it counts. Looks records up only for folders of more than one file.
    """
    strays = []
    for task_id, folder in cache.folders():
        if not is_task_id(task_id) or folder.holds_at_most_one_file():
            continue
        record = store.get(task_id)
        if record is not None and record.state is JobState.COMPLETED:
            folder.keep_only(record.result)
            strays.append(task_id)
            log.warning("stray_files_removed", task_id=task_id)
    return strays


def _without_record(store: JobStore, task_ids: Iterable[str]) -> list[str]:
    ids = sorted(task_ids)
    known = store.known(ids)
    return [task_id for task_id in ids if task_id not in known]


def _is_old(folder: JobFolder, grace_s: float) -> bool:
    try:
        return folder.age_s() > grace_s
    except FileNotFoundError:  # removed while we looked
        return False
