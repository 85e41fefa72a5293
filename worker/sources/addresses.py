"""Which IP addresses a recording may be fetched from: public ones, and what the operator allows besides.

Pure: no name is resolved here. Light: the gateway may import it. A URL is a stranger's wish that this
service open a connection from inside its own network, so whatever is not plainly public is refused.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from worker.errors import UrlForbidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IANA's special-purpose registries as of 2025, besides `is_global`: its list differs between Python's
# patch releases, and it takes the 6to4 relays, AS112 and every embedded IPv4 address for global.
_SPECIAL_V4 = tuple(
    IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # Azure's host agent: a public number that only ever answers from inside
    )
)
# Outside of it lie mapped and translated IPv4 (::ffff:0:0/96, 64:ff9b::/96), local, multicast and the rest.
_GLOBAL_V6 = IPv6Network("2000::/3")
# Protocol assignments with Teredo, documentation, 6to4, documentation.
_SPECIAL_V6 = tuple(IPv6Network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
# What "private" opens. Link-local, shared (CGNAT) and metadata addresses need to be named as a network.
_PRIVATE: tuple[Network, ...] = (
    *(IPv4Network(text) for text in ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")),
    *(IPv6Network(text) for text in ("::1/128", "fc00::/7")),
)
_METADATA = frozenset({IPv6Address("fd00:ec2::254"), IPv6Address("fd20:ce::254")})  # Amazon's, Google's


@dataclass(frozen=True)
class AddressPolicy:
    """What is allowed besides public addresses.

    A host of ``allow_hosts`` (lower case; ".example.org" means every name below, and example.org) may have
    private addresses; an address in ``allow_networks`` may be any.
    """

    allow_private: bool = False
    allow_hosts: tuple[str, ...] = ()
    allow_networks: tuple[Network, ...] = ()

    def permits(self, address: Address, host: str) -> bool:
        """Whether ``host`` (lower case, no trailing dot) may be reached at ``address``."""
        if is_public(address) or any(address in network for network in self.allow_networks):
            return True
        private = address not in _METADATA and any(address in network for network in _PRIVATE)
        return private and (self.allow_private or self.names(host))

    def names(self, host: str) -> bool:
        """Whether the operator allows this host by name."""
        return any(
            host == allowed.removeprefix(".") or (allowed.startswith(".") and host.endswith(allowed))
            for allowed in self.allow_hosts
        )


PUBLIC_ONLY = AddressPolicy()


def address_policy(allow_hosts: str, *, allow_private: bool) -> AddressPolicy:
    """The policy that two settings describe; ``allow_hosts``: names, .suffixes and CIDRs, parted by commas.

    Raises ValueError, which quotes the entry at fault.
    """
    hosts: list[str] = []
    networks: list[Network] = []
    for entry in filter(None, (part.strip().lower() for part in allow_hosts.split(","))):
        if entry[0] == "." or entry[-1].isalpha():
            hosts.append(_checked_host(entry))
        else:
            networks.append(_checked_network(entry))
    return AddressPolicy(allow_private, tuple(hosts), tuple(networks))


def is_public(address: Address) -> bool:
    """Whether the address is a plain global unicast one, with no other address wrapped in it."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _SPECIAL_V4)
    if address.scope_id is not None or address not in _GLOBAL_V6 or not address.is_global:
        return False
    return not any(address in network for network in _SPECIAL_V6)


def checked_addresses(host: str, found: Iterable[str], policy: AddressPolicy) -> Sequence[Address]:
    """What a host's name resolved to, if every address of it may be reached.

    One address that is not allowed spoils them all: a name that is half public is an attack or a mistake.
    Raises UrlForbidden.
    """
    addresses = list(dict.fromkeys(ipaddress.ip_address(text) for text in found))
    if not all(policy.permits(address, host) for address in addresses):
        # The address itself stays untold: it would map the inside of the network for a stranger.
        raise UrlForbidden(
            f"{host} has an address that is not public: give a URL on a public host, or ask the operator "
            "to allow this one"
        )
    return addresses


def literal_address(host: str) -> Address | None:
    """The host as an address, where it is one; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _checked_host(entry: str) -> str:
    if not all(label.replace("-", "").replace("_", "").isalnum() for label in entry.lstrip(".").split(".")):
        raise ValueError(f"{entry!r} is no host name, .suffix or CIDR")
    return entry


def _checked_network(entry: str) -> Network:
    try:
        return ipaddress.ip_network(entry)
    except ValueError as exc:
        raise ValueError(f"{entry!r} is no host name, .suffix or CIDR") from exc
