"""How often a client address may send a wrong API key: a bucket of tries for each, refilled with time.

In memory: each gateway process counts for itself. Not for several threads at once.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

BURST = 10
REFILL_S = 6.0  # for one try
MOST_ADDRESSES = 10_000
_IPV6_NETWORK = 64  # bits: what one customer of a provider has to itself


@dataclass(frozen=True)
class Bucket:
    """Tries that were left at a time, in seconds by a monotonic clock."""

    tries: float
    at: float

    def at_time(self, now: float) -> Bucket:
        return Bucket(min(BURST, self.tries + (now - self.at) / REFILL_S), now)


class FailureLimit:
    def __init__(self) -> None:
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until this address may try again; 0: now."""
        bucket = self._buckets.get(network_of(address))
        tries = bucket.at_time(now).tries if bucket else BURST
        return 0.0 if tries >= 1 else (1 - tries) * REFILL_S

    def count(self, address: str, now: float) -> None:
        """One more try has failed."""
        network = network_of(address)
        bucket = self._buckets.pop(network, Bucket(BURST, now)).at_time(now)
        self._buckets[network] = Bucket(bucket.tries - 1, now)
        if len(self._buckets) > MOST_ADDRESSES:
            self._buckets.popitem(last=False)  # the one that has failed the longest ago


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # no address: a Unix socket's peer
        return ""
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip), _IPV6_NETWORK), strict=False))
