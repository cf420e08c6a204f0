"""Child processes that do not outlive their parent. Imports nothing slow: it runs first thing in a child."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(owner: int) -> None:
    """Linux: have this process killed when the thread of process `owner` that started it ends, however that happens.

    The wish survives an exec. Elsewhere this does nothing.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:  # it had died before the request
        os._exit(1)
