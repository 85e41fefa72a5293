"""A fetch with everything set for tests: short waits, names that all lead to loopback, calls written down."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from worker.sources.addresses import AddressPolicy
from worker.sources.fetch import Network, fetch
from worker.sources.intake import Fetched, FetchLimits

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence
    from pathlib import Path

MIB = 1024**2
LIMITS = FetchLimits(
    max_bytes=8 * MIB, connect_s=5, idle_s=5, total_s=30, tries=3, first_wait_s=0.01, longest_pause_s=5
)
PRIVATE = AddressPolicy(allow_private=True)


def to_loopback(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@dataclass
class Fetching:
    """One job's folder, and what a fetch into it did."""

    folder: Path
    policy: AddressPolicy = PRIVATE
    limits: FetchLimits = LIMITS
    resolve: Callable[[str, int], Sequence[str]] = to_loopback
    ssl_context: ssl.SSLContext | None = None
    check: Callable[[], None] = lambda: None
    reports: list[tuple[int, int | None]] = field(default_factory=list)
    space_asked: list[int] = field(default_factory=list)

    @property
    def target(self) -> Path:
        return self.folder / "input"

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def limit(self, **limits: float) -> Fetching:
        return replace(self, limits=replace(self.limits, **limits))

    def run(self, url: str) -> Fetched:
        return fetch(
            url,
            self.target,
            self.limits,
            self.policy,
            self.check,
            lambda done, total: self.reports.append((done, total)),
            require_space=self.space_asked.append,
            network=Network(self.resolve, self.ssl_context),
        )
