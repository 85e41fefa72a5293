"""The worker of a release to come, which knows one format more: ``python -m tests.upgrade.newer_worker``."""

from __future__ import annotations

import sys

from worker import __main__ as entry
from worker.jobs import store

if __name__ == "__main__":
    store.FORMAT += 1
    sys.exit(entry.main())
