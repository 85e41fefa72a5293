"""``transcribe FILE|URL``: upload, wait, print or write the transcript, tidy up.

Ctrl-C while the job waits or runs asks whether to cancel it; a second one quits and leaves it running. Where
there is nobody to ask, the first one quits. Whoever quits is told how to get at the job later.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from gateway.client.arguments import API_KEY, Exit, Order, read_arguments
from gateway.client.blocking import Client
from gateway.client.display import Screen
from gateway.client.errors import ApiError, BadAnswer, Busy, ClientError, ServerAway, SourceChanged
from gateway.client.files import write_atomically
from gateway.client.requests import is_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.client.models import JobStatus

AWAY = (ServerAway, Busy, BadAnswer)
ALREADY_ENDED = "already_ended"
UNAUTHORIZED = "unauthorized"
QUESTION = "Cancel the job? y: cancel it, n: wait on, Ctrl-C: quit and leave it running [y/N] "


def main(argv: Sequence[str] | None = None) -> int:
    order = read_arguments(sys.argv[1:] if argv is None else argv, os.environ)
    screen = Screen(has_bars=sys.stderr.isatty())
    with Client(order.server, order.api_key, on_retry=screen.retry) as client:
        errand = Errand(client, order, screen)
        try:
            code, told = errand.run(), ""
        except KeyboardInterrupt:
            code, told = Exit.INTERRUPTED, f"interrupted: {errand.left_behind}"
        except (ClientError, OSError) as exc:
            left = f"; {errand.left_behind}" if isinstance(exc, AWAY) else ""
            code, told = exit_of(exc), f"transcribe: {exc}{remedy(exc, order)}{left}"
    screen.close()
    if told:
        screen.say(told)
    return code


def exit_of(error: ClientError | OSError) -> Exit:
    if isinstance(error, SourceChanged | OSError):
        return Exit.USAGE
    return Exit.AWAY if isinstance(error, AWAY) else Exit.FAILED


def remedy(error: ClientError | OSError, order: Order) -> str:
    """What the command's user can do, in the command's own words: the service speaks of HTTP."""
    if isinstance(error, ApiError) and error.code == UNAUTHORIZED:
        return f"; the key is read from the environment variable {API_KEY}"
    return f"; the address was {order.server} (--server)" if isinstance(error, ServerAway) else ""


class Errand:
    """One recording's way through the command."""

    def __init__(self, client: Client, order: Order, screen: Screen) -> None:
        self._client = client
        self._order = order
        self._screen = screen
        self._task_id = order.resume
        self._may_be_taken = is_url(order.source)

    @property
    def left_behind(self) -> str:
        """What a caller who goes now should know."""
        if self._task_id:
            return f"the job stays on the server; get it by: transcribe --resume {self._task_id}"
        return f"the service {'may have' if self._may_be_taken else 'has not'} taken the recording"

    def run(self) -> Exit:
        """Raises ClientError, OSError of the recording, KeyboardInterrupt."""
        if not self._task_id:
            source, language = self._order.source, self._order.language
            job = self._client.transcribe(source, language=language, progress=self._sent)
            self._task_id = job.task_id
            self._screen.say(f"job {job.task_id}")
        status = self._follow()
        self._screen.close()
        if status is None:
            return Exit.INTERRUPTED
        if status.error is not None:
            self._screen.say(f"transcribe: the job has failed: {status.error.message} ({status.error.code})")
            return Exit.FAILED
        return self._deliver()

    def _sent(self, sent_bytes: int, total_bytes: int | None) -> None:
        self._may_be_taken |= total_bytes is None or sent_bytes >= total_bytes
        self._screen.upload(sent_bytes, total_bytes)

    def _follow(self) -> JobStatus | None:
        """The job's end; None where it was cancelled. A KeyboardInterrupt from here is meant to quit."""
        while True:
            try:
                return self._client.wait(self._task_id, progress=self._screen.job)
            except KeyboardInterrupt:
                self._screen.close()
                if not (sys.stdin.isatty() and sys.stderr.isatty()):
                    raise
                if asks_to_cancel() and self._cancelled():
                    return None

    def _cancelled(self) -> bool:
        """False where the job had ended before: then its end is what was asked for first."""
        try:
            stopped = self._client.cancel(self._task_id)
        except ApiError as exc:
            if exc.code != ALREADY_ENDED:
                raise
            return False
        self._screen.say(f"the job is cancelled{'' if stopped else '; its worker is stopping'}")
        return True

    def _deliver(self) -> Exit:
        transcript = self._client.download(self._task_id, self._order.fmt)
        try:
            write(transcript, self._order)
        except OSError as exc:
            self._screen.say(f"transcribe: can't write the transcript: {exc.strerror}; {self.left_behind}")
            return Exit.NOT_WRITTEN
        if not self._order.keep:
            self._release()
        return Exit.OK

    def _release(self) -> None:
        """The transcript is safe: what goes wrong from here is no failure."""
        try:
            self._client.release(self._task_id)
        except ClientError as exc:
            self._screen.say(f"the job stays on the server until it expires: {exc}")


def asks_to_cancel() -> bool:
    """Raises KeyboardInterrupt for a second Ctrl-C, or the end of the input."""
    sys.stderr.write(QUESTION)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        raise KeyboardInterrupt
    return answer.strip().lower() in {"y", "yes"}


def write(transcript: str, order: Order) -> None:
    """Raises OSError."""
    if order.output is not None:
        write_atomically(order.output, transcript)
        return
    # A buffer of its own: one that could not be written would fail once more when Python ends.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(transcript.removesuffix("\n").encode() + b"\n")
