"""API keys for tests, and what is sent with them."""

from __future__ import annotations

from gateway.keys import Role, line_of

ALICE, BOB, OPS = "tk_alices-key", "tk_bobs-key", "tk_the-operators-key"
CLIENT_KEYS = ",".join(
    line_of(name, secret, Role.CLIENT) for name, secret in [("alice", ALICE), ("bob", BOB)]
)
OPERATOR_KEY = line_of("ops", OPS, Role.OPERATOR)


def key(secret: str, address: str = "") -> dict[str, str]:
    """Headers of a request with this key. The gateway takes an address from a proxy on loopback."""
    return {"authorization": f"Bearer {secret}", **({"x-forwarded-for": address} if address else {})}
