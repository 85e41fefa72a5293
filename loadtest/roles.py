"""Who uses the service, and how: one Locust user for each role, with think times.

Only Locust's own process imports this: Locust patches the standard library for gevent.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any, ClassVar

from locust import FastHttpUser, task

from loadtest.board import ENDS, Board
from loadtest.limits import WAIT_S
from loadtest.recordings import FORM_TYPE, as_form, silence

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT_S = (5, 20, 60)
LONG_S = (600, 1800)
FORMATS = ("json", "json", "md", "srt", "txt")
ACCEPTED = 202
BOARD = Board()  # Locust makes the users by itself: nothing can be given to them


class Role(FastHttpUser):
    """``think_s``: the least and most seconds between two tasks, times --think."""

    abstract = True
    think_s: ClassVar[tuple[float, float]]

    def wait_time(self) -> float:
        return float(random.uniform(*self.think_s) * self.options.think)  # noqa: S311  load, not a secret

    @property
    def options(self) -> Any:
        """Locust's, and those of loadtest.options."""
        return self.environment.parsed_options

    def key(self) -> str:
        return str(self.options.client_key)

    def on_start(self) -> None:
        self.client.auth_header = f"Bearer {self.key()}" if self.key() else None

    def submit(self, name: str, **request: Any) -> None:
        with self.client.post("/transcribe", name=name, catch_response=True, **request) as answer:
            if answer.status_code == ACCEPTED:
                BOARD.accept(answer.json()["task_id"])
            else:
                answer.failure(f"{answer.status_code} {(answer.text or '')[:200]}")


class ShortUploader(Role):
    """Sends voice messages, as a form."""

    weight = 3
    think_s = (4, 12)
    bodies: ClassVar[list[bytes]] = []

    def on_start(self) -> None:
        super().on_start()
        if not self.bodies:
            self.bodies.extend(as_form(silence(seconds)) for seconds in SHORT_S)

    @task
    def upload(self) -> None:
        body = random.choice(self.bodies)  # noqa: S311  load, not a secret
        self.submit("/transcribe (short file)", data=body, headers={"Content-Type": FORM_TYPE})


class LongUploader(Role):
    """Sends meetings of up to half an hour, as the body itself."""

    weight = 1
    think_s = (20, 40)
    bodies: ClassVar[list[bytes]] = []

    def on_start(self) -> None:
        super().on_start()
        if not self.bodies:
            self.bodies.extend(silence(seconds) for seconds in LONG_S)

    @task
    def upload(self) -> None:
        body = random.choice(self.bodies)  # noqa: S311  load, not a secret
        self.submit("/transcribe (long file)", data=body, headers={"Content-Type": "audio/wav"})


class UrlSubmitter(Role):
    """Names recordings that a server of its own has."""

    weight = 1
    think_s = (4, 12)

    @task
    def submit_url(self) -> None:
        if self.options.recording_url:
            self.submit("/transcribe (URL)", json={"url": self.options.recording_url})


class Poller(Role):
    """Asks again and again."""

    weight = 8
    think_s = (0.5, 1.5)

    @task
    def poll(self) -> None:
        ask(self, "/status", "")


class Watcher(Role):
    """Stays until there is news: by a job's events to its end, or by long polls.

    Of events it is measured how long the first takes.
    """

    weight = 4
    think_s = (1, 3)

    @task(3)
    def watch(self) -> None:
        task_id = BOARD.any_open()
        if not task_id:
            return
        began = time.perf_counter()
        with self.client.get(
            f"/events/{task_id}", name="/events", stream=True, catch_response=True
        ) as answer:
            events = told(answer)
            first = next(events, "nothing")
            answer.request_meta["response_time"] = (time.perf_counter() - began) * 1000
            status = [first, *events][-1]
            if status in ENDS:
                BOARD.tell(task_id, status)
            else:
                answer.failure(f"{answer.status_code}, and the stream ended behind {status}")

    @task(1)
    def wait_for_news(self) -> None:
        ask(self, f"/status?wait_s={WAIT_S}", f"?wait_s={WAIT_S}")


class Downloader(Role):
    """Fetches results, half of them in the form that programs read."""

    weight = 4
    think_s = (1, 3)

    @task
    def download(self) -> None:
        task_id = BOARD.any_completed()
        if task_id:
            fmt = random.choice(FORMATS)  # noqa: S311  load, not a secret
            self.client.get(f"/download/{task_id}?fmt={fmt}", name="/download")


class Operator(Role):
    """Looks at the service, as a monitor does."""

    weight = 1
    think_s = (1, 4)

    def key(self) -> str:
        return str(self.options.operator_key)

    @task
    def look(self) -> None:
        path = random.choice(("/queue", "/jobs", "/usage", "/gpus", "/health/ready"))  # noqa: S311  as above
        self.client.get(path)


def ask(user: Role, name: str, query: str) -> None:
    task_id = BOARD.any_open()
    if task_id:
        answer = user.client.get(f"/status/{task_id}{query}", name=name)
        if answer.ok and answer.status_code:
            BOARD.tell(task_id, answer.json()["status"])


def told(answer: Any) -> Iterator[str]:
    """The status in each event of a stream. By the event: iter_lines waits until 1024 bytes are there."""
    stream = answer._response  # noqa: SLF001  Locust gives no other way to the bytes as they come
    while stream is not None and (event := stream.readline(b"\n\n")):
        _, _, data = event.decode().partition("data: ")
        if data:  # a comment has none
            yield str(json.loads(data).get("status"))
