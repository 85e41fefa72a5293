"""Connections for fetches: to the very address that was checked, and never blocking for long.

Owns a network backend for httpcore2. A name is resolved once for each connection, all its addresses are
checked, and one of those is connected to: a second answer of the name server has no say. TLS asks for and
checks the host's name all the same.
"""

from __future__ import annotations

import errno
import select
import socket
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import httpcore2

from worker.errors import SourceRefused, SourceUnavailable
from worker.sources.addresses import Address, AddressPolicy, checked_addresses, literal_address
from worker.sources.watching import Overdue, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")
MAX_ADDRESSES_TRIED = 4
_UNKNOWN_NAME = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def system_resolver(host: str, port: int) -> Sequence[str]:
    """The addresses of a name; raises socket.gaierror. May block for as long as the name server likes."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True)
class GuardedBackend(httpcore2.NetworkBackend):
    policy: AddressPolicy
    watch: Watch
    resolve: Callable[[str, int], Sequence[str]]
    connect_s: float
    idle_s: float

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  ours are the limits, for every wait alike
        local_address: str | None = None,  # noqa: ARG002  never set by us
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002  never set by us
    ) -> httpcore2.NetworkStream:
        """Raises UrlForbidden, SourceRefused, SourceUnavailable, or httpcore2's errors."""
        ends = time.monotonic() + self.connect_s
        addresses = self._addresses(host, port)[:MAX_ADDRESSES_TRIED]
        for number, address in enumerate(addresses, start=1):
            share_s = (ends - time.monotonic()) / (len(addresses) - number + 1)
            try:
                sock = _connected(address, port, self.watch, share_s)
            except (OSError, Overdue) as exc:
                if number == len(addresses):
                    raise httpcore2.ConnectError(type(exc).__name__) from exc
                continue
            return GuardedStream(sock, self.watch, self.connect_s, self.idle_s)
        raise SourceUnavailable(f"the name {host} has no address: check the URL, or try again later")

    def _addresses(self, host: str, port: int) -> Sequence[Address]:
        if literal_address(host) is not None:
            return checked_addresses(host, [host], self.policy)
        try:
            found = self.watch.call(lambda: self.resolve(host, port), self.connect_s)
        except Overdue as exc:
            raise SourceUnavailable(f"the name {host} was not resolved in time: try again later") from exc
        except socket.gaierror as exc:
            if exc.errno in _UNKNOWN_NAME:
                raise SourceRefused(f"there is no host named {host}: check the URL") from exc
            raise SourceUnavailable(f"the name {host} can't be resolved now: try again later") from exc
        return checked_addresses(host, found, self.policy)


class GuardedStream(httpcore2.NetworkStream):
    """A connected socket whose waits are sliced; a wait without a byte ends after ``idle_s``."""

    def __init__(self, sock: socket.socket, watch: Watch, connect_s: float, idle_s: float) -> None:
        self._sock = sock
        self._watch = watch
        self._connect_s = connect_s
        self._idle_s = idle_s

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  see connect_tcp
        self._watch.look()
        with _as_httpcore(httpcore2.ReadError, httpcore2.ReadTimeout):
            return self._patiently(lambda: self._sock.recv(max_bytes), select.POLLIN, self._idle_s)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002  see connect_tcp
        with _as_httpcore(httpcore2.WriteError, httpcore2.WriteTimeout):
            while buffer:
                sent = self._patiently(lambda: self._sock.send(buffer), select.POLLOUT, self._idle_s)  # noqa: B023  called at once
                buffer = buffer[sent:]

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002  see connect_tcp
    ) -> httpcore2.NetworkStream:
        try:
            with _as_httpcore(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                self._sock = sock = ssl_context.wrap_socket(
                    self._sock, server_hostname=server_hostname, do_handshake_on_connect=False
                )
                self._patiently(sock.do_handshake, select.POLLIN, self._connect_s)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        if info == "ssl_object" and isinstance(self._sock, ssl.SSLSocket):
            return self._sock
        return None

    def _patiently(self, call: Callable[[], T], events: int, timeout_s: float) -> T:
        ends = time.monotonic() + timeout_s
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                waits_for = select.POLLIN
            except ssl.SSLWantWriteError:
                waits_for = select.POLLOUT
            except BlockingIOError:
                waits_for = events
            self._watch.wait_for(self._sock, waits_for, ends - time.monotonic())


def _connected(address: Address, port: int, watch: Watch, timeout_s: float) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  IP's own number
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _finish_connecting(sock, sock.connect_ex((str(address), port)), watch, timeout_s)
    except BaseException:
        sock.close()
        raise
    return sock


def _finish_connecting(sock: socket.socket, code: int, watch: Watch, timeout_s: float) -> None:
    if code == errno.EINPROGRESS:
        watch.wait_for(sock, select.POLLOUT, timeout_s)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, errno.errorcode.get(code, "unknown"))


@contextmanager
def _as_httpcore(failed: type[Exception], overdue: type[Exception]) -> Iterator[None]:
    try:
        yield
    except Overdue as exc:
        raise overdue("nothing came in time") from exc
    except ssl.SSLCertVerificationError as exc:
        raise SourceRefused(
            f"the server's certificate is not valid ({exc.verify_message}): use the name that it is for, "
            "or have it renewed"
        ) from exc
    except OSError as exc:
        raise failed(type(exc).__name__) from exc
