"""Fetches a recording by http or https into a file of the job's folder.

It trusts neither the URL nor the server: docs/urls.md says what is refused, and why the connection layer is
ours. Nothing here logs or quotes a path, a query or credentials.
"""

from __future__ import annotations

import base64
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import httpcore2

from worker.errors import BadRequest, SourceIncomplete, SourceRefused, SourceUnavailable, UrlForbidden
from worker.sources.answers import Body, CannotJoin, Redirect, answer_from, read_answer
from worker.sources.connecting import GuardedBackend, system_resolver
from worker.sources.intake import Fetched, FetchLimits, Intake, bring
from worker.sources.urls import ParsedUrl, checked_url
from worker.sources.watching import Watch

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from worker.sources.addresses import AddressPolicy
    from worker.sources.resuming import Note


@dataclass(frozen=True)
class Network:
    """How names are resolved and whom TLS trusts; None: the system's certificates."""

    resolve: Callable[[str, int], Sequence[str]] = system_resolver
    ssl_context: ssl.SSLContext | None = None


def fetch(
    url: str,
    target: Path,
    limits: FetchLimits,
    policy: AddressPolicy,
    check: Callable[[], None],
    report: Callable[[int, int | None], None],
    *,
    require_space: Callable[[int], None],
    network: Network | None = None,
) -> Fetched:
    """Bring the recording to ``target``, whole or not at all; what is there of it stays for the next attempt.

    Safe to repeat: it goes on where it ended, or begins anew where the server has another version by now.
    ``target`` itself is not looked at. ``check`` is called several times a second and raises a
    BaseException to cancel; ``report`` at each piece, with bytes done and in all (None: unknown);
    ``require_space`` every few MiB (Cache.require_space). All by the calling thread.

    Raises:
        UrlForbidden, SourceRefused, SourceTooLarge: no further attempt can help.
        SourceUnavailable, SourceIncomplete, Interrupted: one may.
        InputMissing: the folder is gone.
    """
    watch = Watch(check, limits.total_s)
    source = HttpSource(_allowed(url, policy), limits, policy, watch, network or Network())
    return bring(url, target, limits, watch, source.one_try, report, require_space)


@dataclass(frozen=True)
class HttpSource:
    first: ParsedUrl
    limits: FetchLimits
    policy: AddressPolicy
    watch: Watch
    network: Network

    def one_try(self, intake: Intake) -> None:
        """Ask, follow redirects, and take what comes."""
        url, hops = self.first, 0
        while True:
            with self._asked(url, intake.part.note) as response:
                step = self._step(response, url, intake)
                if isinstance(step, Body):
                    _take(step, response, intake)
                    return
            if hops == self.limits.redirects:
                raise SourceRefused(f"the URL redirects more than {hops} times: give the address it ends at")
            url, hops = self._next(url, step.location), hops + 1

    @contextmanager
    def _asked(self, url: ParsedUrl, note: Note) -> Iterator[httpcore2.Response]:
        _keep_headers_out_of_logs()
        backend = GuardedBackend(
            self.policy, self.watch, self.network.resolve, self.limits.connect_s, self.limits.idle_s
        )
        request = httpcore2.Request(
            "GET",
            httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target),
            headers=self._headers(url, note),
        )
        with httpcore2.ConnectionPool(
            ssl_context=self.network.ssl_context, max_connections=1, network_backend=backend
        ) as pool:
            with _as_unavailable(url.host):
                response = pool.handle_request(request)
            try:
                yield response
            finally:
                response.close()

    def _headers(self, url: ParsedUrl, note: Note) -> list[tuple[str, str]]:
        headers = [
            ("Host", url.authority),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "transcription-service"),
            ("Connection", "close"),
        ]
        if note.can_go_on:
            headers += [("Range", f"bytes={note.kept_bytes}-"), ("If-Range", note.validator)]
        if (self.first.username or self.first.password) and url.origin == self.first.origin:
            pair = f"{self.first.username}:{self.first.password}".encode()
            headers.append(("Authorization", f"Basic {base64.b64encode(pair).decode()}"))
        return headers

    def _step(self, response: httpcore2.Response, url: ParsedUrl, intake: Intake) -> Redirect | Body:
        answer = answer_from(url.host, response.status, response.headers)
        try:
            return read_answer(answer, intake.part.note, datetime.now(UTC))
        except CannotJoin:
            intake.part.discard()
            raise

    def _next(self, url: ParsedUrl, location: str) -> ParsedUrl:
        following = _allowed(_joined(url, location), self.policy)
        if url.scheme == "https" and following.scheme == "http":
            raise UrlForbidden(
                f"{url.host} redirects from https to http, where anyone may read along: use its https URL"
            )
        return following


def _take(body: Body, response: httpcore2.Response, intake: Intake) -> None:
    if body.first_byte:
        intake.go_on(body.total_bytes, body.content_type)
    else:
        intake.begin(body.validator, body.total_bytes, body.content_type)
    chunks = response.iter_stream()
    while True:
        with _as_incomplete(intake):
            chunk = next(chunks, None)
        if chunk is None:
            break
        intake.take(chunk)
    intake.end()


def _allowed(url: str, policy: AddressPolicy) -> ParsedUrl:
    try:
        return checked_url(url, policy)
    except BadRequest as exc:
        raise UrlForbidden(exc.message) from exc


def _joined(url: ParsedUrl, location: str) -> str:
    try:
        # A Location is sent in bytes, which by custom are UTF-8.
        location = location.encode("latin-1").decode(errors="replace")
        return urljoin(url.origin + url.target, location)
    except ValueError:
        # Without its cause, which quotes the location.
        raise UrlForbidden(f"{url.host} redirects to what is no URL") from None


@contextmanager
def _as_unavailable(host: str) -> Iterator[None]:
    try:
        yield
    except httpcore2.TimeoutException as exc:
        raise SourceUnavailable(f"{host} did not answer in time: try again later") from exc
    except httpcore2.ConnectError as exc:
        raise SourceUnavailable(f"{host} can't be reached: check host and port, or try again later") from exc
    except (httpcore2.NetworkError, httpcore2.ProtocolError) as exc:
        raise SourceUnavailable(f"{host} did not answer as a web server does: try again later") from exc


@contextmanager
def _as_incomplete(intake: Intake) -> Iterator[None]:
    try:
        yield
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as exc:
        done, total = intake.part.done_bytes, intake.part.note.total_bytes
        of = "" if total is None else f" of {total}"
        raise SourceIncomplete(f"the recording broke off after {done}{of} bytes: submit it again") from exc


def _keep_headers_out_of_logs() -> None:
    """At DEBUG the library logs every header, and a Location may be a signed URL."""
    logging.getLogger("httpcore2").setLevel(logging.INFO)
