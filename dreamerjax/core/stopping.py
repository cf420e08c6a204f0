"""Whether a run is to end: asked for by a signal or from Python, and looked at between any two environment steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from dreamerjax.core.child_process import SIGNALS, kill
from dreamerjax.core.console import say
from dreamerjax.core.errors import Interrupt

T = TypeVar("T")
SAME = 0.5  # seconds within which signals are one: `timeout` sends its own to the process, and then to the group
PATIENCE = 3.0  # seconds after which a run that has not ended yet says what it waits for
GRACE = 8.0  # seconds after which a process that is to end at once, and does not, is ended
LOOK = 0.05  # seconds between two looks at what another thread or process does

_unfinished: list[Future[Any]] = []
_abrupt = threading.Event()  # set: the program is to end without Python's own farewell


class Stopped(Exception):
    """What was going on is given up, for the run is to end."""


class Stop:
    """Asked for by a signal or a callback; the run ends at its next safe point. A second signal interrupts at once.

    While `at_once` holds there is nothing to save, and the first one does.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.signal: int | None = None  # that this process has got
        self.requested = False
        self._told: int | None = None  # the signal that another process has got
        self.at_once = at_once
        self._noted = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now, again = time.monotonic(), self.signal is not None
        if again and now - self._noted < SAME:
            return
        self.signal, self.requested, self._noted = number, True, now
        if again or self.at_once:
            raise Interrupt(number)

    def tell(self, number: int | None) -> None:
        """Ask for it as another process of the same training was asked: by a signal, or without one."""
        self.requested, self._told = True, number

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it; 0 without one."""
        number = self._told if self.signal is None else self.signal
        return 0 if number is None else 128 + number

    @property
    def ends_program(self) -> bool:
        """Whether not only the run is to end."""
        return self.exit_code not in (0, 128 + signal.SIGINT)

    def within(self, seconds: float) -> bool:
        """Whether it is asked for, now or in the next moments."""
        deadline = time.monotonic() + seconds
        while not self.requested and time.monotonic() < deadline:
            time.sleep(LOOK)
        return self.requested

    def look(self) -> None:
        """Raise Stopped if the run is to end."""
        if self.requested:
            raise Stopped

    def wait_for(self, work: Callable[..., T], *args: object) -> T:
        """`work(*args)` in a thread of its own, since a signal is not seen while JAX compiles or a picture is drawn.

        Raises Stopped if the run is to end before it is done. It then goes on for nothing: it must change nothing.
        """
        pool = ThreadPoolExecutor(1, "dreamerjax")
        future = pool.submit(work, *args)
        pool.shutdown(wait=False)
        _unfinished.append(future)
        while not wait([future], LOOK).done:
            self.look()
        _unfinished.remove(future)
        return future.result()


@contextmanager
def stop_on_signals(stop: Stop | None = None) -> Iterator[Stop]:
    """Handle SIGINT, SIGTERM and SIGHUP for the duration of the block; in another thread than the main one, none arrives.

    A SIGHUP that was ignored before, as under nohup, stays ignored.
    """
    stop = stop or Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    handled = [n for n in SIGNALS if n == signal.SIGINT or n == signal.SIGTERM or signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, stop) for number in handled}
    try:
        with _watched(stop):
            yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _watched(stop: Stop) -> Iterator[None]:
    """A thread that sees signals which the main thread cannot: in foreign code, or where its exception is swallowed.

    Where somebody else listens to them in this way, as a notebook does, there is none.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    timers: list[threading.Timer] = []
    if before != -1:
        signal.set_wakeup_fd(before)
    watch = threading.Thread(target=_watch, args=(stop, reader, timers), daemon=True)
    watch.start()
    try:
        yield
    finally:
        if before == -1:
            signal.set_wakeup_fd(-1)
        writer.close()  # ends the thread
        watch.join()
        for timer in timers:
            timer.cancel()


def _watch(stop: Stop, reader: socket.socket, timers: list[threading.Timer]) -> None:
    noted: float | None = None
    with reader, suppress(OSError):
        while byte := reader.recv(1):
            number, now = byte[0], time.monotonic()
            if number not in SIGNALS or (noted is not None and now - noted < SAME):
                continue
            name = signal.Signals(number).name
            if noted is not None or stop.at_once:
                timer = threading.Timer(GRACE, end_process, [128 + number])
            else:
                words = f"{name}: the run ends, with a checkpoint, after the present step of its environment or update"
                timer = threading.Timer(PATIENCE, say, [f"{words}; a second one ends it at once"])
            noted = now
            timer.daemon = True
            timers.append(timer)
            timer.start()


def end_process(code: int) -> None:
    """End this process and those that it started, wherever its threads are."""
    for child in multiprocessing.active_children():
        kill(child.pid)
    os._exit(code)


def leave_at_once() -> None:
    """`leave` shall end the program at once: what libraries do at its end cannot succeed any more."""
    _abrupt.set()


def leave(code: int) -> None:
    """End the program: at once if a thread still works on what was given up."""
    if _abrupt.is_set() or any(not future.done() for future in _unfinished):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
