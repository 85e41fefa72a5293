"""A small service in memory with the whole API, long polls, idempotency keys and job lists included.

Its jobs end when a test says so.
"""

from __future__ import annotations

import json
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

PAGE = 2
RESULTS = {
    "md": "# Transcript\n",
    "srt": "1\n00:00:00,000 --> 00:00:01,000\nHello.\n",
    "vtt": "WEBVTT\n\n00:00.000 --> 00:01.000\nHello.\n",
    "txt": "Hello.\n",
}


class Stub:
    """``requests`` has (method, path, query, headers, JSON body or None) of everything that was asked."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.requests: list[tuple[str, str, dict[str, str], dict[str, str], Any]] = []
        self.moved = threading.Condition()
        self.break_next_submit = False
        self.ends_at_once = True
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        with self.moved:
            self.moved.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def add(self, status: str) -> str:
        task_id = str(uuid.uuid4())
        self.jobs[task_id] = {
            **dict.fromkeys(
                ("progress", "position", "eta_s", "started_at", "ended_at", "expires_at", "error")
            ),
            "task_id": task_id,
            "status": status,
            "created_at": "2026-01-02T03:04:05.678Z",
            "attempt": 1,
            "warnings": [],
            "news": "of no concern",
        }
        return task_id

    def move(self, task_id: str, status: str) -> None:
        with self.moved:
            self.jobs[task_id]["status"] = status
            self.moved.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                self._dispatch()

            def do_GET(self) -> None:
                self._dispatch()

            def do_DELETE(self) -> None:
                self._dispatch()

            def _dispatch(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                is_json = self.headers.get("content-type", "") == "application/json"
                url = urlsplit(self.path)
                query, headers = (
                    dict(parse_qsl(url.query)),
                    {k.lower(): v for k, v in self.headers.items()},
                )
                stub.requests.append(
                    (self.command, url.path, query, headers, json.loads(body) if is_json else None)
                )
                _, endpoint, *rest = url.path.split("/")
                answer = getattr(stub, f"on_{endpoint}")(*rest, query=query, headers=headers)
                if answer is None:
                    self.close_connection = True
                    return
                status, content = answer
                data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler

    def on_transcribe(self, *, headers: dict[str, str], **_: Any) -> tuple[int, Any] | None:
        key = headers.get("idempotency-key") or str(uuid.uuid4())
        if key not in self.keys:
            self.keys[key] = self.add("completed" if self.ends_at_once else "pending")
        if self.break_next_submit:
            self.break_next_submit = False
            return None  # taken, but the client does not hear of it
        return 202, {"task_id": self.keys[key], "status": "pending"}

    def on_status(self, task_id: str, *, query: dict[str, str], **_: Any) -> tuple[int, Any]:
        with self.moved:
            self.moved.wait_for(
                lambda: self.jobs[task_id]["status"] in {"completed", "failed"},
                float(query.get("wait_s", 0)),
            )
            return 200, self.jobs[task_id]

    def on_download(self, task_id: str, *, query: dict[str, str], **_: Any) -> tuple[int, Any]:
        document = {"task_id": task_id, "engine": "e", "model": "m", "duration_s": 1, "segments": []}
        return 200, RESULTS.get(query["fmt"], document)

    def on_release(self, task_id: str, **_: Any) -> tuple[int, Any]:
        del self.jobs[task_id]
        return 202, {"task_id": task_id, "status": "stopping"}

    def on_cancel(self, task_id: str, **_: Any) -> tuple[int, Any]:
        if self.jobs[task_id]["status"] in {"completed", "failed"}:
            return 409, {"code": "already_ended", "detail": "it has ended", "status": 409}
        self.move(task_id, "failed")
        return 200, {"task_id": task_id, "status": "failed", "stopped": True}

    def on_jobs(self, *, query: dict[str, str], **_: Any) -> tuple[int, Any]:
        found = [job for job in self.jobs.values() if query.get("state") in {None, job["status"]}]
        begin = int(query.get("cursor", "0"))
        end = begin + PAGE
        return 200, {
            "jobs": found[begin:end],
            "next_cursor": str(end) if end < len(found) else None,
        }
