"""Child processes that never outlive their parent, and how they ended."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A worker's exit statuses that its supervisor tells apart (<sysexits.h>).
DEVICE_FAULT_EXIT = 75  # EX_TEMPFAIL: its device failed, and nothing is wrong with the worker
REFUSED_EXIT = 78  # EX_CONFIG: it could only fail jobs, as anyone with these settings could

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LIBC = ctypes.CDLL(None)


def die_with_parent(signum: signal.Signals) -> Callable[[], None]:
    """For Popen's preexec_fn: ``signum`` comes when this process dies, however it does.

    It makes two system calls, no more. The kernel looks at the thread that forked: start children in one
    that lives as long as they shall.
    """
    parent = os.getpid()

    def arm() -> None:
        _LIBC.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
        if os.getppid() != parent:  # it died already
            os._exit(1)

    return arm


def describe_status(status: int) -> str:
    return f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
