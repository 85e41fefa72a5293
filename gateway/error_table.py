"""Renders the tables of docs/errors.md from the error tree, which is their one source.

``python -m gateway.error_table`` rewrites the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import gateway.errors  # noqa: F401  so that its part of the tree is there
from worker.errors import DeliveryFailed, DeliveryInterrupted, JobError, ServiceError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path("docs/errors.md")
MODULES = ("worker.errors", "gateway.errors")
# What to do about each, for the one who reads it in an answer.
MEANINGS = {
    "already_ended": "The job has ended, so it can't be cancelled. Release it to remove it.",
    "bad_request": "The request is malformed. Its `detail` says where.",
    "broker_away": "Redis does not answer. Where `detail` names a task id, ask for its status first.",
    "cancelled": "The job was cancelled, by POST /cancel or by an operator.",
    "disk_full": "The cache's disk has no room above its reserve (MIN_FREE_BYTES).",
    "empty_recording": "The recording has no bytes in it.",
    "engine_failed": "The engine broke off on this recording.",
    "engine_unavailable": "The engine or its model can't be loaded on the worker.",
    "forbidden": "This needs an operator's key, or, without keys, a page of an origin in CORS_ORIGINS.",
    "gpu_fault": "CUDA failed in every allowed attempt. The recording may be why.",
    "gone": "The job was released or has expired. Its files are no more.",
    "idempotency_key_reused": "This Idempotency-Key came with another request, whose job is still there.",
    "input_missing": "The recording is no longer in the cache. Submit it again.",
    "internal": "A fault of the service. The answer's X-Request-ID finds it in the log.",
    "interrupted": "The surroundings of every allowed attempt failed (disk, memory, Redis). Submit it again.",
    "invalid_request": "A field is missing, unknown, given twice or out of its values. `errors` names it.",
    "job_failed": "There is nothing to download: the job has failed. `detail` repeats its error.",
    "method_not_allowed": "The path exists, the method does not. See the Allow header.",
    "not_audio": "There is no readable audio in the file.",
    "not_finished": "There is nothing to download yet.",
    "not_found": "There is no such job, or no such path.",
    "out_of_gpu_memory": "The GPU had no memory left in any allowed attempt. Submit it again later.",
    "queue_full": "MAX_WAITING_JOBS jobs wait already. Nothing of this one was kept.",
    "request_in_flight": "A request with this Idempotency-Key is being taken right now. Try again later.",
    "range_not_satisfiable": "The Range begins behind the result's end. `Content-Range` tells its size.",
    "result_missing": "The job is completed, but its result is no longer in the cache.",
    "source_incomplete": "The recording broke off on its way from its URL in every allowed attempt.",
    "source_refused": "The URL gives no recording: gone, denied, redirected too often, or no plain file.",
    "source_too_large": "What lies at the URL is larger than MAX_UPLOAD_BYTES.",
    "source_unavailable": "The URL's server was away, busy or too slow in every allowed attempt.",
    "s3_delivered": "The result is in the bucket and no longer here. `locations` tells where.",
    "s3_not_configured": "The server has no bucket. Leave `s3_path` out.",
    "time_limit": "The engine ran longer than a recording of this length may take (TIME_LIMIT_X).",
    "too_large": "The recording is larger than MAX_UPLOAD_BYTES.",
    "too_long": "The recording lasts longer than MAX_DURATION_S.",
    "unsupported_body": "The body is of a kind that POST /transcribe does not take. See its Content-Type.",
    "too_many_failures": "Too many wrong API keys came from this address.",
    "too_many_waiting": "MAX_WAITING_PER_KEY jobs of this key wait already. Nothing of this one was kept.",
    "too_much_stored": "This key's jobs hold MAX_STORED_BYTES_PER_KEY. Release some. Nothing was kept.",
    "unauthorized": "There is no API key in the request, or one that is not known.",
    "upload_stalled": "The client sent nothing for a minute in the middle of the body.",
    "url_forbidden": "The URL, its name's address or a redirect leads where this service sends nobody.",
    "webhook_not_configured": "The server can't sign webhooks. Leave `webhook_url` out.",
    "worker_lost": "Every allowed attempt ended with a dead or silent worker.",
}
# No answer's own, and no job's end: they stand for those below them, or become a warning (s3_not_delivered).
UNSEEN = (Unavailable, JobError, DeliveryFailed, DeliveryInterrupted)
START, END = "<!-- table: {} -->\n", "<!-- end of table: {} -->\n"


def kinds() -> list[type[ServiceError]]:
    """One class a code, of those that a client can see; the first in the tree where several share one."""
    by_code = {kind.code: kind for kind in reversed([*_tree(ServiceError)]) if kind.__module__ in MODULES}
    for kind in UNSEEN:
        by_code.pop(kind.code)
    return [by_code[code] for code in sorted(by_code)]


def answers_table() -> str:
    """The errors that answer a request."""
    rows = [
        f"| `{kind.code}` | {kind.http_status} "
        f"| {'yes' if kind.retryable else 'no'} | {MEANINGS[kind.code]} |"
        for kind in sorted(kinds(), key=lambda kind: (kind.http_status, kind.code))
        if not issubclass(kind, JobError)
    ]
    return "\n".join(["| code | status | try again | meaning |", "|---|---|---|---|", *rows]) + "\n"


def jobs_table() -> str:
    """The errors of failed jobs, as /status shows them."""
    rows = [f"| `{kind.code}` | {MEANINGS[kind.code]} |" for kind in kinds() if issubclass(kind, JobError)]
    return "\n".join(["| code | meaning |", "|---|---|", *rows]) + "\n"


def renewed(page: str) -> str:
    """The page with its tables renewed; the text around them is written by hand."""
    for name, table in {"answers": answers_table(), "jobs": jobs_table()}.items():
        before, _, rest = page.partition(START.format(name))
        _, _, after = rest.partition(END.format(name))
        page = before + START.format(name) + table + END.format(name) + after
    return page


def _tree(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
