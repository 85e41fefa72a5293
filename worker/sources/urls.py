"""What a URL of a recording must look like, told without the network. Light: the gateway imports it.

Programs disagree about odd URLs, and attacks live on that. So an odd one is refused, not interpreted.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import quote, unquote, urlsplit

import idna

from worker.errors import BadRequest
from worker.sources.addresses import PUBLIC_ONLY, AddressPolicy, literal_address

if TYPE_CHECKING:
    from urllib.parse import SplitResult

MAX_URL_LENGTH = 2048
MAX_KEY_BYTES = 1024  # S3's own limit
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(
    r"(?!.{254})([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Ports of the Fetch standard's block list, and of databases that take a line of HTTP for commands.
_OTHER_PORTS = frozenset(
    (
        *(0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42),
        *(43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110, 111, 113, 115),
        *(117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515),
        *(526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995),
        *(1719, 1720, 1723, 2049, 3306, 3659, 4045, 4190, 5060, 5061, 5432, 6000, 6379, 6566, 6665, 6666),
        *(6667, 6668, 6669, 6679, 6697, 10080, 11211, 27017),
    )
)


@dataclass(frozen=True)
class ParsedUrl:
    """An http or https URL. ``host`` is ASCII, lower case, without brackets or a trailing dot.

    ``target`` is path and query, as they are sent. The repr holds neither query nor credentials.
    """

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True)
class S3Object:
    bucket: str
    key: str


def checked_url(text: str, policy: AddressPolicy = PUBLIC_ONLY) -> ParsedUrl:
    """The URL, if it can be taken as far as one can tell without the network; raises BadRequest.

    A host's name may still turn out to have a private address: the fetch looks at that.
    """
    _require(_is_plain(text), "must be text without spaces, backslashes and control characters")
    _require(len(text) <= MAX_URL_LENGTH, f"must not be longer than {MAX_URL_LENGTH} characters")
    parts, port = _split(text)
    _require(parts.scheme in _DEFAULT_PORTS, "must begin with http:// or https://")
    _require(bool(parts.hostname), "names no host")
    _require(parts.netloc.count("@") <= 1, "has more than one @ before its path: write %40 in a password")
    host = _host(parts.hostname or "", bracketed="[" in parts.netloc.rpartition("@")[2])
    _require_allowed(host, policy)
    return ParsedUrl(
        scheme=parts.scheme,
        host=host,
        port=_port(port, parts.scheme),
        target=_target(parts),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def allowed_s3_url(url: str, bucket: str, prefix: str) -> S3Object:
    """The object of an ``s3://bucket/key``, if it lies in ``bucket`` under ``prefix``; raises BadRequest.

    ``prefix`` is empty (the whole bucket) or a path without outer slashes. A key is taken as it is written:
    nothing in it is decoded, and ? and # are signs like others.
    """
    named, slash, key = url.removeprefix("s3://").partition("/")
    _require(url.startswith("s3://") and bool(slash) and bool(key), "must be s3://<bucket>/<key>")
    _require(named == bucket, "names a bucket that this service does not read from")
    _require(not prefix or key.startswith(f"{prefix}/"), f"must lie under s3://{bucket}/{prefix}/")
    _require({"", ".", ".."}.isdisjoint(key.split("/")), "must not contain an empty part, nor . or ..")
    _require(_has_no_controls(key) and "\\" not in key, "must not contain backslashes or control characters")
    _require(len(key.encode()) <= MAX_KEY_BYTES, f"must have a key of at most {MAX_KEY_BYTES} bytes")
    return S3Object(bucket, key)


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # Without its cause, which quotes the URL and with it credentials.
        raise BadRequest("url: is no URL that can be read: check host and port") from None
    return parts, port


def _host(text: str, *, bracketed: bool) -> str:
    if bracketed:
        return _ipv6(text)
    host = (text if text.isascii() else _in_ascii(text)).lower().removesuffix(".")
    _require(
        _HOST.fullmatch(host) is not None, "names a host that can't be one: use letters, digits, - and ."
    )
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        # Resolvers take 0x7f.1, 0177.0.0.1 and 2130706433 for addresses; each its own way.
        try:
            return str(IPv4Address(host))
        except AddressValueError:
            _refuse("names an odd address: write an IPv4 address as four decimal numbers")
    return host


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except AddressValueError:
        _refuse("names an IPv6 address that is none")
    _require(address.scope_id is None, "must not name a network interface in its IPv6 address")
    return str(address)


def _in_ascii(host: str) -> str:
    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        _refuse("names a host that is no international domain name")


def _require_allowed(host: str, policy: AddressPolicy) -> None:
    address = literal_address(host)
    if address is not None:
        _require(policy.permits(address, host), "names an address that is not public: use a public host")
    elif host == "localhost" or host.endswith(".localhost"):
        _require(policy.allow_private or policy.names(host), "names this machine: use a public host")


def _port(port: int | None, scheme: str) -> int:
    _require(port not in _OTHER_PORTS, f"names port {port}, which is not one of HTTP's")
    return port or _DEFAULT_PORTS[scheme]


def _target(parts: SplitResult) -> str:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return "".join(sign if sign.isascii() else quote(sign) for sign in target)


def _is_plain(text: str) -> bool:
    return _has_no_controls(text) and "\\" not in text and not any(sign.isspace() for sign in text)


def _has_no_controls(text: str) -> bool:
    """Nor lone surrogates, nor signs that nobody sees."""
    return not any(unicodedata.category(sign) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for sign in text)


def _require(condition: bool, fault: str) -> None:
    if not condition:
        _refuse(fault)


def _refuse(fault: str) -> NoReturn:
    # Without a cause: those of the libraries quote what they were given.
    raise BadRequest(f"url: {fault}") from None
