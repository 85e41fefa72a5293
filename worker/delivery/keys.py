"""The Redis keys of webhook deliveries; docs/delivery.md has the table."""

from __future__ import annotations

DUE = "webhooks:due"  # zset: "<task id>:<event>" by the time of the next try, in Unix seconds


def delivery_key(member: str) -> str:
    """Hash: one delivery. ``member`` is its name in DUE."""
    return f"webhook:{member}"
