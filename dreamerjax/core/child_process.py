"""Child processes that do not outlive their parent. Imports nothing slow: it runs first thing in a child."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def die_with_parent(owner: int) -> None:
    """Linux: have this process killed when the thread of process `owner` that started it ends, however that happens.

    The wish survives an exec. Elsewhere this does nothing.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != owner:  # it had died before the request
        os._exit(1)


@contextmanager
def signals_blocked(block: bool = True) -> Iterator[None]:
    """Children that are started here do not get SIGINT, SIGTERM and SIGHUP until they are `deaf`, which unblocks them.

    With `block=False` the contrary, within such a block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK if block else signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """Receive SIGINT, SIGTERM and SIGHUP also where this process was started by one that had blocked them."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def deaf() -> None:
    """Ignore SIGINT, SIGTERM and SIGHUP, which reach a whole group of processes and are for the parent alone.

    Ignored by a function, not by SIG_IGN, which programs that this process starts would inherit.
    """
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
        if hasattr(signal, "siginterrupt"):
            signal.siginterrupt(number, False)
    unblock_signals()


def kill(pid: int | None) -> None:
    """Kill a process and, where the system tells them, all that it started; one that has ended is no error."""
    if pid is None:
        return
    with suppress(Exception):  # psutil is missing, or cannot tell
        import psutil

        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                child.kill()
    with suppress(OSError):
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
